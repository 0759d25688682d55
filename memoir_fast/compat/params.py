"""The published editor's YAML settings, and their meaning here."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from ..base import files
from ..base.json_text import text_of
from ..config import FEATURES, MemoirConfig
from ..errors import quoted

_Kind = TypeVar("_Kind", int, float)
_MOST_BRACKETS = 200
_LONGEST = 1 << 18  # the most bytes of a settings file
SHIPPED = resources.files("memoir_fast.compat") / "hparams"


@dataclass
class MEMOIRHyperParams:
    """The published settings. `from_hparams` reads them from YAML; floats may be written as text (`1e-3`).

    `objective_optimization` and `max_length` are accepted because the files have them. The objective is always
    "only_label", and sequences longer than the model's context are refused, not cut. (EasyEdit uses `max_length`, 30 if
    a file has none, when it measures.) With `RUN_SAVE_BACKGROUND_FEATURES` nothing is edited; background features are
    collected and written to `dir_to_save_background_features`, which is not written to otherwise.

    Raises:
        ValueError: a value is not accepted; the message names the setting.
    """

    model_name: Any
    alg_name: str = "MEMOIR"
    device: int | str = 0
    edit_lr: float = 1.0
    n_iter: int = 30
    objective_optimization: str = "only_label"
    inner_params: list[str] = field(default_factory=list)
    model_parallel: bool = False
    use_chat_template: bool = False
    top_k: int | None = None
    irr_threshold: float = 0.5
    prompt_feature_agg: str = "mean_decentered"
    dir_background_features: str | None = None
    RUN_SAVE_BACKGROUND_FEATURES: bool = False
    dir_to_save_background_features: str | None = None
    batch_size: int = 1
    max_length: int = 30

    def __post_init__(self) -> None:
        if self.alg_name != "MEMOIR":
            raise ValueError(f"alg_name must be MEMOIR, got {quoted(self.alg_name)}: this file is for another method")
        if self.max_length is None:
            self.max_length = 30
        for name in ("model_parallel", "use_chat_template", "RUN_SAVE_BACKGROUND_FEATURES"):
            setattr(self, name, _truth(name, getattr(self, name)))
        if self.RUN_SAVE_BACKGROUND_FEATURES and not self.dir_to_save_background_features:
            raise ValueError(
                "dir_to_save_background_features must name a file where RUN_SAVE_BACKGROUND_FEATURES is set"
            )
        numbers = {"edit_lr": float, "irr_threshold": float, "n_iter": int, "batch_size": int, "max_length": int}
        for name, kind in numbers.items():
            setattr(self, name, _number(name, getattr(self, name), kind))
        if self.top_k is not None:
            self.top_k = _number("top_k", self.top_k, int)
        if self.prompt_feature_agg not in FEATURES:
            raise ValueError(f"prompt_feature_agg must be one of {FEATURES}, got {quoted(self.prompt_feature_agg)}")
        if self.objective_optimization != "only_label":
            raise ValueError(f"objective_optimization must be only_label, got {quoted(self.objective_optimization)}")
        if isinstance(self.inner_params, str):
            self.inner_params = [self.inner_params]
        if not isinstance(self.inner_params, list) or not all(isinstance(name, str) for name in self.inner_params):
            raise ValueError(f"inner_params must be a list of one projection's name, got {quoted(self.inner_params)}")
        if len(self.inner_params) > 1:
            raise ValueError(f"inner_params must name one projection, got {quoted(self.inner_params)}")

    @classmethod
    def of(cls, hparams: Any) -> MEMOIRHyperParams:
        """These settings from EasyEdit's own object of the same name, whose attributes are the published keys; ours as they are.

        Raises:
            TypeError: it has no `alg_name` and `model_name`. ValueError: a value is not what its key means.
        """
        if isinstance(hparams, cls):
            return hparams
        found = {f.name: getattr(hparams, f.name) for f in fields(cls) if hasattr(hparams, f.name)}
        if not {"alg_name", "model_name"} <= found.keys():
            raise TypeError(
                f"hparams must be settings with the published keys (alg_name, model_name, ...), got {type(hparams).__name__}"
            )
        return cls(**found)

    @classmethod
    def from_hparams(cls, hparams_name_or_path: str) -> MEMOIRHyperParams:
        """Settings from a YAML file: a path (with or without .yaml), or the name of a shipped file (`smollm2`, `llama3-8b`, ...).

        Raises:
            ValueError: there is no such file, it is not a mapping, it does not say `alg_name: MEMOIR` (EasyEdit's files
                for some other methods have no `alg_name`), or a value is not accepted.
        """
        import yaml

        text, where = _read(str(hparams_name_or_path))
        try:
            if text.count("[") + text.count("{") > _MOST_BRACKETS:  # the scanner takes time quadratic in them
                raise ValueError(f"more than {_MOST_BRACKETS} brackets")
            if any(isinstance(token, (yaml.AnchorToken, yaml.AliasToken)) for token in yaml.scan(text)):
                raise ValueError("anchors or aliases (& and *), which can describe values without end: write them out")
            values = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ValueError(f"{where}: not YAML, or not settings ({str(error)[:200]})") from None
        if not isinstance(values, dict):
            raise ValueError(f"{where}: expected a mapping of settings, got {type(values).__name__}")
        known = {f.name for f in fields(cls)}
        unknown = sorted(str(key)[:40] for key in values if key not in known)
        if unknown:
            warnings.warn(f"{where}: unknown keys are ignored: {', '.join(unknown)[:200]}", stacklevel=2)
        if values.get("alg_name") is None:
            raise ValueError(f"{where}: alg_name is missing: without `alg_name: MEMOIR` the file is for another method")
        if "model_name" not in values:
            raise ValueError(f"{where}: model_name is missing")
        try:
            return cls(**{key: value for key, value in values.items() if key in known})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from None

    def config(self) -> MemoirConfig:
        """The same settings as a `MemoirConfig`, with the authors' optimisation and a fixed threshold. Raises as
        that."""
        return MemoirConfig(
            layer=self.inner_params[0] if self.inner_params else None,
            top_k=self.top_k,
            threshold=self.irr_threshold,
            edit_lr=self.edit_lr,
            steps=self.n_iter,
            recipe="published",
            router="mask",
            feature=self.prompt_feature_agg,
            chat_template=bool(self.use_chat_template),
            end="none",
            contexts=10,
        )


def _read(name: str) -> tuple[str, str]:
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.exists():
            return text_of(files.read_named(path, "hparams", _LONGEST), f"hparams: {path}"), str(path)
    shipped = SHIPPED / f"{Path(name).name.removesuffix('.yaml')}.yaml"
    if Path(name).parent == Path() and shipped.is_file():
        return shipped.read_text("utf-8"), f"hparams/{shipped.name}"
    names = sorted(entry.name.removesuffix(".yaml") for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))
    raise ValueError(f"hparams: there is no file {name!r}; shipped ones are {', '.join(names)}")


def _truth(name: str, value: Any) -> bool:
    """True or False, or one of them as text from a command line."""
    found = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
        str(value).strip().lower()
    )
    if found is None:
        raise ValueError(f"{name} must be true or false, got {quoted(value)}")
    return found


def _number(name: str, value: Any, kind: type[_Kind]) -> _Kind:
    try:
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be {'an integer' if kind is int else 'a number'}, got {quoted(value)}") from None
    return kind(number)
