"""Compiles the part of the package that is not Python, in place and into the wheel."""

from __future__ import annotations

import pathlib
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension

SOURCE = "hal9mig/categories/native.pyx"


class Compiled(BuildHookInterface[Any]):
    """Runs before a wheel is put together, and before an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the extension beside its source."""
        name = SOURCE.removesuffix(".pyx").replace("/", ".")
        # The C text is made anew each time: it is no source, and stays out of the tree.
        work = pathlib.Path(self.directory) / "compiled"
        built = cythonize([Extension(name, [SOURCE])], build_dir=str(work), force=True, quiet=True)
        command = Distribution({"ext_modules": built}).get_command_obj("build_ext")
        command.build_temp = str(work)  # type: ignore[attr-defined]
        command.inplace = True  # type: ignore[attr-defined]
        command.ensure_finalized()
        command.run()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(SOURCE.removesuffix(".pyx") + ".*.so")
