"""Matching models from the options of a comparison."""

from boundarygeo.classifier import Classifier
from boundarygeo.cli.outputs import table
from boundarygeo.cli.sources import Study, open_study
from boundarygeo.cli.transfer.options import ModelOptions
from boundarygeo.transfer.classifiers import check_classifiers, check_shared


def open_models(options: ModelOptions) -> tuple[dict[str, Classifier], Study]:
    """Models by name, data and examples; prints each model's accuracy on the examples."""
    study = open_study(options, correct_only=False)
    classifiers = dict(zip(options.names, study.classifiers, strict=True))
    models = check_classifiers(classifiers, study.examples.x, study.examples.y)
    check_shared(models)
    rows = [("right on", f"of {len(models.y):,} examples")]
    rows += [(name, right.percent()) for name, right in models.accuracy().items()]
    print(table(rows), end="\n\n")
    return classifiers, study
