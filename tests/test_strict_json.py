import json
import math
from typing import NoReturn

from kd_lightning.strict_json import strict_json


def test_numbers_that_are_not_finite_become_null_at_any_depth_and_others_stay() -> None:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    text = strict_json({"loss": math.nan, "parts": [(1.5, math.inf), {"low": -math.inf}], "name": "NaN"})
    expected = {"loss": None, "parts": [[1.5, None], {"low": None}], "name": "NaN"}
    assert json.loads(text, parse_constant=refuse) == expected
