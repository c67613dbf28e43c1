"""`boundarygeo info`: versions, devices and the precision chosen on each."""

import os
import platform


def info() -> None:
    """Show versions, devices, and the precision chosen on each, with the reason."""
    import torch

    from boundarygeo.evaluation import fast_bfloat16, precision_ladder
    from boundarygeo.results.provenance import software_versions
    from boundarygeo.training import METHODS
    from boundarygeo.zoo import MODELS
    from boundarygeo.zoo.files import cache_folder

    for name, version in software_versions().items():
        print(f"{name:12} {version}")
    print(f"{'system':12} {platform.platform()}")
    devices = [torch.device("cpu")]
    devices += [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    for device in devices:
        if device.type == "cuda":
            what = torch.cuda.get_device_name(device)
        else:
            what = (
                f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
            )
        native = fast_bfloat16(device)
        why = "computes in bfloat16 natively" if native else "is not known to be fast at bfloat16"
        print(f"{device!s:12} {what}")
        print(f"{'':12} precision auto = {' > '.join(precision_ladder('auto', device))}: the device {why}")
    if len(devices) == 1:
        print(f"{'cuda':12} none")
    print(f"{'cache':12} {cache_folder()}")
    print(f"{'models':12} {', '.join(sorted(MODELS))}")
    print(f"{'methods':12} {', '.join(sorted(METHODS))}")
