"""Kinds of modules under the instruments: which work, and which are refused, and how.

    python benchmarks/modules.py --write docs/modules.md

Random weights, two inputs, the smallest settings: it shows that an instrument runs and what it says, not what it finds.
Every cell is one call. A call that works is also checked: labels of maps at the centre are the module's own, and
gradients are those of plain autograd on the module. timm and transformers are needed for their rows.
"""

import argparse
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

import boundarygeo as bg

Module = Callable[[], nn.Module]


class Logits(nn.Module):
    """What a user writes around a model of Hugging Face."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 15 * 15, 10)
    ).eval()


def hooked() -> nn.Module:
    module = small()
    module[2].register_forward_hook(lambda layer, given, out: out.clamp(max=1))
    return module


def dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(small(), {nn.Linear}, dtype=torch.qint8)


def static() -> nn.Module:
    quantization = torch.ao.quantization
    module = nn.Sequential(quantization.QuantStub(), *small(), quantization.DeQuantStub()).eval()
    module.qconfig = quantization.get_default_qconfig("x86")  # type: ignore[assignment]
    prepared = quantization.prepare(module)
    prepared(torch.rand(4, 3, 32, 32))
    return quantization.convert(prepared)


def exported() -> nn.Module:
    batch = torch.export.Dim("batch", min=1, max=4096)
    return torch.export.export(small(), (torch.rand(4, 3, 32, 32),), dynamic_shapes=({0: batch},)).module()


def from_timm(name: str, **settings: object) -> Module:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **settings)

    return make


def from_transformers(kind: str, **settings: object) -> Module:
    def make() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{kind}Config")(num_labels=10, **settings)
        return getattr(transformers, f"{kind}ForImageClassification")(config)

    return make


def torchvision_model(name: str) -> Module:
    def make() -> nn.Module:
        module = torchvision.models.get_model(name, weights=None, num_classes=10, **_SMALL.get(name, {}))
        for parameter in module.parameters():
            if parameter.ndim == 2 and not parameter.any():  # vit_b_16's head: all logits would be equal
                nn.init.normal_(parameter, std=0.1)
        return module

    return make


_SMALL = {"inception_v3": {"init_weights": False}, "vit_b_16": {"image_size": 64}}
_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 64}

MODULES: dict[str, tuple[Module, int]] = {
    **{
        f"torchvision {name}": (torchvision_model(name), size)
        for name, size in (
            ("resnet50", 64),
            ("vit_b_16", 64),
            ("swin_t", 64),
            ("convnext_tiny", 64),
            ("efficientnet_b0", 64),
            ("densenet121", 64),
            ("inception_v3", 80),
        )
    },
    "timm resnet18": (from_timm("resnet18"), 64),
    "timm vit_tiny_patch16_224": (from_timm("vit_tiny_patch16_224", img_size=64), 64),
    "timm convnext_atto": (from_timm("convnext_atto"), 64),
    "Hugging Face ViT, as it is": (from_transformers("ViT", **_VIT), 64),
    "Hugging Face ViT, `.logits` of it": (lambda: Logits(from_transformers("ViT", **_VIT)()), 64),
    "Hugging Face ResNet, `.logits` of it": (
        lambda: Logits(from_transformers("ResNet", depths=[1, 1], hidden_sizes=[16, 32], embedding_size=8)()),
        64,
    ),
    "CNN": (small, 32),
    "CNN, `torch.compile`": (lambda: torch.compile(small(), backend="eager"), 32),
    "CNN, `torch.jit.script`": (lambda: torch.jit.script(small()), 32),
    "CNN, `torch.jit.trace`": (lambda: torch.jit.trace(small(), torch.rand(2, 3, 32, 32)), 32),
    "CNN, `torch.export`, any batch": (exported, 32),
    "CNN, `DataParallel`": (lambda: nn.DataParallel(small()), 32),
    "CNN, float16": (lambda: small().half(), 32),
    "CNN, bfloat16": (lambda: small().bfloat16(), 32),
    "CNN, float64": (lambda: small().double(), 32),
    "CNN with a forward hook": (hooked, 32),
    "CNN, quantised, static": (static, 32),
    "CNN, quantised, dynamic": (dynamic, 32),
    "CNN behind softmax": (lambda: nn.Sequential(small(), nn.Softmax(1)), 32),
}


def maps(clf: bg.Classifier, module: nn.Module, x: Tensor, y: Tensor) -> None:
    found = bg.boundary_maps(clf, bg.random_planes(x, y), extent=0.01, resolution=5, method="dense", progress=False)
    check(torch.equal(found.center_labels.long(), clf.predict(x)), "labels of the centre")


def lines(clf: bg.Classifier, module: nn.Module, x: Tensor, y: Tensor) -> None:
    bg.logit_lines(clf, x, y, direction="random", extent=0.01, points=3, progress=False)


def attacks(clf: bg.Classifier, module: nn.Module, x: Tensor, y: Tensor) -> None:
    bg.pgd(clf, x, y, eps=0.01, steps=2, progress=False)
    gradient = clf.input_gradient(x, y)
    if all(parameter.dtype == torch.float32 for parameter in module.parameters()):
        leaf = x.clone().requires_grad_()
        own = torch.autograd.grad(nn.functional.cross_entropy(module(leaf), y, reduction="sum"), leaf)[0]
        check(torch.allclose(own, gradient, rtol=1e-2, atol=1e-3 * float(own.abs().max())), "gradients")


def dimension(clf: bg.Classifier, module: nn.Module, x: Tensor, y: Tensor) -> None:
    bg.adversarial_dimension(clf, x, y, eps=1.0, max_dimension=4, progress=False)


def transfer(clf: bg.Classifier, module: nn.Module, x: Tensor, y: Tensor) -> None:
    bg.transfer_matrix({"a": clf, "b": clf}, x, y, eps=0.01, attack="fgsm", progress=False)


def pieces(clf: bg.Classifier, module: nn.Module, x: Tensor, y: Tensor) -> None:
    bg.linear_pieces(clf, x[:1], y[:1], direction=torch.ones_like(x[:1]), extent=1e-5, progress=False)


INSTRUMENTS = {
    "maps": maps,
    "lines": lines,
    "attacks": attacks,
    "dimension": dimension,
    "transfer": transfer,
    "exact pieces": pieces,
}


def check(right: bool, what: str) -> None:
    if not right:
        raise AssertionError(f"other {what} than the module's own")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    parser.add_argument("--only", default="", help="modules whose names contain this")
    options = parser.parse_args()
    rows, notes = [], {}
    for name, (make, size) in MODULES.items():
        if options.only not in name:
            continue
        torch.manual_seed(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module = make()
            if not name.endswith("any batch"):
                module = module.eval()
            del caught[:]
            cells = [outcome(instrument, module, size, notes) for instrument in INSTRUMENTS.values()]
            said = {str(warning.message) for warning in caught if warning.filename.find("boundarygeo") >= 0}
        if said:
            cells[0] += "".join(
                f" [{note(notes, f'warns: {text}')}]" for text in sorted(said) if "probabilities" in text
            )
        rows.append([name, *cells])
        print(" | ".join(rows[-1]), flush=True)
    text = page(rows, notes)
    if options.write:
        options.write.write_text(text)
    else:
        print(text)


def outcome(instrument: Callable, module: nn.Module, size: int, notes: dict[str, int]) -> str:
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    clf = bg.Classifier(module, device="cpu", num_classes=10)
    try:
        y = (clf.predict(x) + (instrument is attacks)) % 10
        instrument(clf, module, x, y)
    except (ValueError, TypeError) as error:
        return f"refused [{note(notes, ' '.join(str(error).split()))}]"
    except Exception as error:  # a crash, which the table is there to find
        traceback.print_exc()
        return f"**{type(error).__name__}**"
    return "works"


def note(notes: dict[str, int], text: str) -> int:
    return notes.setdefault(text.split(", got an error in")[0] if "traceable" in text else text, len(notes) + 1)


def page(rows: list[list[str]], notes: dict[str, int]) -> str:
    head = ["module", *INSTRUMENTS]
    lines = [
        "# Which modules work",
        "",
        "Written by `python benchmarks/modules.py --write docs/modules.md` (random weights, two inputs, CPU; "
        f"torch {torch.__version__.split('+')[0]}, torchvision {torchvision.__version__.split('+')[0]}). Where it says "
        "*works*, labels and float32 gradients were compared with the module's own. Exact pieces need a network "
        "that is piecewise linear and can be traced.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"{number}. {text}" for text, number in notes.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
