"""Builds the kernels of lqrad/native where a C compiler is found; without one lqrad is whole, and slower."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# No sum is reordered and no product is fused into a sum: all machines give the same bits.
FLAGS = ["-std=c99", "-O3", "-ffp-contract=off", "-fPIC", "-shared"]


class NativeHook(BuildHookInterface):
    """Compile the kernels in place, and add them to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("LQRAD_NATIVE") == "0":
            return
        folder = Path(self.root, "lqrad", "native")
        library = folder / "kernels.native"
        library.unlink(missing_ok=True)
        compiler = shlex.split(os.environ.get("CC") or "cc")
        if shutil.which(compiler[0]) is None:
            self.app.display_warning(
                f"lqrad: found no C compiler {compiler[0]!r}; small problems will take longer"
            )
            return
        checksum = zlib.crc32(b"".join(file.read_bytes() for file in sorted(folder.glob("*.[ch]"))))
        sources = [str(file) for file in sorted(folder.glob("*.c"))]
        flags = [*FLAGS, f"-DLQRAD_SOURCES={checksum}"]
        command = [*compiler, *flags, "-o", str(library), *sources, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            library.unlink(missing_ok=True)
            first = next(iter(done.stderr.splitlines()), "no message")
            self.app.display_warning(
                f"lqrad: {shlex.join(compiler)} cannot build the kernels ({first}); small problems "
                "will take longer"
            )
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"].append(f"lqrad/native/{library.name}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
