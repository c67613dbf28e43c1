"""The networks and images that the benchmarks run on."""

import os
import sys
from pathlib import Path

import torch
from torch import Tensor

import boundarygeo as bg
from boundarygeo.training import load_checkpoint
from boundarygeo.zoo import load_data, load_weights
from boundarygeo.zoo.models import resnet20

EXTENT = {"resnet20": 16 / 255, "small_cnn": 0.3}
KINDS = ("fgsm_random", "fgsm_adversarial", "random")


def resnet20_on_cifar10(count: int, device: str = "auto") -> tuple[bg.Classifier, Tensor, Tensor]:
    """The third-party ResNet-20 and test images of CIFAR-10 that it gets right; needs BOUNDARYGEO_DATA."""
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds cifar10-jpeg.tar and resnet20-12fca82f.th")
    data = load_data(f"folder:{folder}/cifar10-jpeg.tar")
    module = resnet20()
    load_weights(module, f"{folder}/resnet20-12fca82f.th")
    clf = bg.Classifier(module, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), device=device)
    return clf, *_correct(clf, data.test.x, data.test.y, count)


def small_cnn_on_mnist5k(count: int, device: str = "auto") -> tuple[bg.Classifier, Tensor, Tensor]:
    """The network of the demo and its test digits; needs a `make demo` before."""
    path = Path("figures/demo/small_cnn-mnist5k-seed0.pt")
    if not path.is_file():
        sys.exit(f"run `make demo` first: it trains {path}")
    module, checkpoint = load_checkpoint(path)
    data = load_data("mnist5k")
    clf = bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=device)
    return clf, *_correct(clf, data.test.x, data.test.y, count)


def mnist_network(
    architecture: str, count: int, *, seed: int = 0, device: str = "auto"
) -> tuple[bg.Classifier, Tensor, Tensor]:
    """A network of `make mnist-models` and test digits of all of MNIST that it gets right; needs BOUNDARYGEO_DATA."""
    path = Path(f"models/{architecture}-mnist-seed{seed}.pt")
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder or not path.is_file():
        sys.exit(
            f"set BOUNDARYGEO_DATA to the folder that holds mnist.npz and run `make mnist-models`: it trains {path}"
        )
    module, checkpoint = load_checkpoint(path)
    data = load_data(f"npz:{folder}/mnist.npz")
    clf = bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=device)
    return clf, *_correct(clf, data.test.x, data.test.y, count)


def planes_of(kind: str, clf: bg.Classifier, x: Tensor, y: Tensor) -> bg.Planes:
    """Planes of one kind through the examples."""
    if kind == "random":
        return bg.random_planes(x, y)
    if kind == "fgsm_adversarial":
        return bg.fgsm_adversarial_planes(clf, x, y)
    return bg.fgsm_random_planes(clf, x, y)


def machine(device: torch.device) -> str:
    """One line that says where the numbers were measured."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        names = [line.split(":")[1].strip() for line in flags.splitlines() if line.startswith("model name")]
        where = f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} threads"
    python = sys.version.split()[0]
    return f"{where}; torch {torch.__version__}, Python {python}, boundarygeo {bg.__version__}"


def _correct(clf: bg.Classifier, x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[: 2 * count + 50]
    right = order[clf.predict(x[order]) == y[order]][:count]
    return x[right], y[right]
