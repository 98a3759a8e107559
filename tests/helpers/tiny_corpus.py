"""A little text of two languages for training tokenizers: orders from the project's own data."""

from __future__ import annotations

import json
from pathlib import Path

DATA = Path(__file__).parent.parent.parent / "data"
LETTERS = (
    "a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T café é à ö ü"
)


def orders(language: str, count: int) -> list[str]:
    """The first orders in a language (``en``, ``zh``) in free words."""
    lines = (DATA / f"orders_{language}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line)["input"] for line in lines]


ENGLISH = [*orders("en", 120), LETTERS]
CHINESE = orders("zh", 60)
CORPUS = ENGLISH + CHINESE
