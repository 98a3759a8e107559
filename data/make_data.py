"""Write the order sets (orders_en.jsonl, orders_zh.jsonl, orders_heldout.jsonl) into this folder.

    python data/make_data.py [--output FOLDER]

Each row is an order in free words with the JSON line that says the same. The sentence frames, the words
that fill them and the seed are all in this file, so every run writes the same bytes. Held-out rows share no
sentence frame with the training rows. Half of them use items and cities that training never shows; the
other half pair known ones in a combination (item, city) that training never shows. The hand-written sets
(chat_multiturn.jsonl, style_sharegpt.json) are not made here.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SEED = 20260314
TRAIN_ROWS = {"en": 500, "zh": 120}
HELDOUT_ROWS = {"en": 80, "zh": 20}

MONTHS_EN = ("January February March April May June July August September October November December").split()
NUMBERS_EN = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
DIGITS_ZH = "〇一二三四五六七八九"


class Order(NamedTuple):
    """What an order says: ``quantity`` from 2 to 40, ``month`` from 1 to 12, ``day`` from 1 to 28."""

    item: str
    quantity: int
    city: str
    month: int
    day: int

    def as_json(self) -> str:
        """The answer: one line of JSON, keys in a fixed order, the date as MM-DD."""
        fields = {"item": self.item, "quantity": self.quantity, "city": self.city}
        return json.dumps(fields | {"date": f"{self.month:02d}-{self.day:02d}"}, ensure_ascii=False)


def ordinal(day: int) -> str:
    """1 -> 1st, 2 -> 2nd, 11 -> 11th."""
    suffix = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def quantities_en(quantity: int) -> list[str]:
    """The ways to write ``quantity`` in English; figures have no other form above twenty."""
    forms = [str(quantity)]
    if quantity <= 20:
        forms += [NUMBERS_EN[quantity - 2]] * 2
    return forms + {6: ["half a dozen"], 12: ["a dozen"]}.get(quantity, [])


def dates_en(month: int, day: int) -> list[str]:
    """The ways to write a date in English."""
    name = MONTHS_EN[month - 1]
    return [f"{day} {name}", f"{name} {day}", f"{name} {ordinal(day)}", f"the {ordinal(day)} of {name}"]


def number_zh(number: int) -> str:
    """1 to 99 in Chinese characters: 12 -> 十二, 20 -> 二十, 25 -> 二十五."""
    tens, ones = divmod(number, 10)
    head = "" if tens == 0 else "十" if tens == 1 else DIGITS_ZH[tens] + "十"
    return head + (DIGITS_ZH[ones] if ones else "")


def quantities_zh(quantity: int) -> list[str]:
    """The ways to write ``quantity`` before a measure word; two is 两 there."""
    return [str(quantity), "两" if quantity == 2 else number_zh(quantity)]


def dates_zh(month: int, day: int) -> list[str]:
    """The ways to write a date in Chinese."""
    return [f"{month}月{day}日", f"{month}月{day}号", f"{number_zh(month)}月{number_zh(day)}日"]


@dataclass(frozen=True)
class Language:
    """The words of one language. A frame has the slots {q} {item} {city} {date} and, if it likes, {name}."""

    instruction: str
    train_frames: Sequence[str]
    heldout_frames: Sequence[str]
    train_items: Sequence[str]
    heldout_items: Sequence[str]
    train_cities: Sequence[str]
    heldout_cities: Sequence[str]
    names: Sequence[str]
    write_quantity: Callable[[int], list[str]]
    write_date: Callable[[int, int], list[str]]


ENGLISH = Language(
    instruction="Write the order as JSON with item, quantity, city and date (MM-DD).",
    train_frames=(
        "Please send {q} {item} to {city} by {date}.",
        "I need {q} {item} in {city} on {date}.",
        "{q} {item}, {city}, {date}.",
        "Hi, {name} here. Could we have {q} {item} delivered to {city} on {date}?",
        "Deliver {q} {item} to our shop in {city} before {date}.",
        "For {date}: {q} {item}, to be sent to {city}.",
        "Our office in {city} ordered {q} {item} for {date}.",
        "On {date} we expect {q} {item} in {city}.",
        "{name} from {city} wants {q} {item} by {date}.",
        "To {city}, please: {q} {item}. They must arrive on {date}.",
        "We are short of {item}. Send {q} to {city} by {date}, thanks.",
        "Can you ship {q} {item} so that they reach {city} on {date}?",
        "Put me down for {q} {item}. Address: {city}. Day: {date}.",
        "The customer in {city} asked for {item}, {q} of them, due {date}.",
        "By {date} the {city} branch must have {q} {item}.",
        "{city} called. They need {q} {item} on {date}.",
        "Order: {item}. Number: {q}. Where: {city}. When: {date}.",
        "Good morning! Is it possible to get {q} {item} to {city} on {date}? Regards, {name}",
        "My mother lives in {city} and would love {q} {item} on {date}.",
        "Book a van: {q} {item} go to {city} on {date}.",
        "The school in {city} has a party on {date} and needs {q} {item}.",
        "{name} will pick up {q} {item} in {city} on {date}.",
        "Add {q} {item} to the {date} delivery for {city}.",
        "As agreed, {q} {item} leave for {city} on {date}.",
        "What we want is {item}. How many? {q}. Bring them to {city} on {date}.",
        "Dear team, the hotel in {city} would like {q} {item} on {date}.",
        "Reserve {q} {item} for our stand in {city}, from {date}.",
        "Send the {item} to {city}: {q} of them, on {date}, please.",
        "A client wrote from {city}: he is waiting for {q} {item} until {date}.",
        "Note for {name}: {city}, {date}, {q} {item}.",
        "Could {q} {item} be in {city} by {date}? {name} is asking.",
        "We open in {city} on {date}. Until then we need {q} {item}.",
    ),
    heldout_frames=(
        "Make sure that {q} {item} get to {city} no later than {date}.",
        "{name} just phoned: {q} {item} for the warehouse in {city}, {date}.",
        "Our friends in {city} run out of {item} soon, so send them {q} on {date}.",
        "Delivery on {date}, place {city}, contents {q} {item}.",
        "It is urgent! The kitchen in {city} wants {q} {item} by {date}.",
        "Would you mind bringing {q} {item} over to {city} on {date}?",
        "Hello, this is {name}. I'd like to buy {q} {item}. Ship to {city}, arriving {date}.",
        "When the truck leaves for {city} on {date}, load {q} {item}.",
        "{item} again, {q} this time, to {city} on {date}.",
        "The museum of {city} pays for {q} {item}, which are due on {date}.",
    ),
    train_items=(
        "apples pears plums lemons melons onions carrots potatoes tomatoes pumpkins cakes pizzas "
        "sandwiches chairs tables lamps mirrors pillows blankets towels curtains candles bottles cups plates "
        "spoons knives books pencils notebooks envelopes maps posters cameras clocks radios keyboards "
        "printers bicycles helmets tents ropes hammers ladders shirts jackets gloves umbrellas"
    ).split(),
    heldout_items=(
        "oranges cherries cookies sofas carpets forks magazines phones batteries buckets scarves boots"
    ).split(),
    train_cities=(
        "Oslo Paris Rome Madrid Berlin Vienna Prague Warsaw Athens Dublin London Brussels Helsinki Budapest "
        "Zurich Milan Munich Hamburg Boston Chicago Denver Dallas Seattle Atlanta Toronto Montreal Lima "
        "Bogota Tokyo Osaka Seoul Delhi Mumbai Bangkok Sydney Perth Cairo Nairobi Istanbul Manila"
    ).split(),
    heldout_cities=(
        "Lisbon Stockholm Geneva Barcelona Houston Vancouver Melbourne Singapore Moscow Kyoto"
    ).split(),
    names="Nora Peter Anna David Maria Tom Laura James Emma Paul".split(),
    write_quantity=quantities_en,
    write_date=dates_en,
)

CHINESE = Language(
    instruction="把订单写成 JSON：item、quantity、city、date（MM-DD）。",
    train_frames=(
        "请在{date}前把{q}箱{item}送到{city}。",
        "{date}需要{q}盒{item}，送到{city}。",
        "{city}的客户要{q}箱{item}，{date}到货。",
        "我要订{q}袋{item}，地址{city}，{date}收货。",
        "{city}，{date}，{q}箱{item}。",
        "您好，请给{city}分店发{q}盒{item}，{date}用。",
        "{name}说{date}要{q}箱{item}，送{city}。",
        "订单：{item}，{q}箱，{city}，{date}。",
        "麻烦把{q}袋{item}寄到{city}，最晚{date}。",
        "{item}不够了，{date}给{city}送{q}箱。",
    ),
    heldout_frames=(
        "{date}请送{q}箱{item}去{city}。",
        "{city}那边来电话，要{q}盒{item}，{date}之前送到。",
        "{name}想买{q}袋{item}，{date}在{city}取货。",
    ),
    train_items="苹果 香蕉 西瓜 葡萄 土豆 白菜 大米 面条 牛奶 鸡蛋 茶叶 咖啡 毛巾 雨伞 铅笔 电池".split(),
    heldout_items="橙子 洋葱 饼干 蜡烛".split(),
    train_cities="北京 上海 广州 深圳 杭州 南京 成都 武汉 西安 天津 青岛 长沙".split(),
    heldout_cities="苏州 厦门 重庆".split(),
    names="小王 小李 张老师 陈先生".split(),
    write_quantity=quantities_zh,
    write_date=dates_zh,
)


class Maker:
    """Draws orders and sentences for one language from a seeded generator."""

    def __init__(self, language: Language, seed: str) -> None:
        self.language = language
        self.random = random.Random(seed)

    def pick(self, choices: Sequence[str]) -> str:
        """One of ``choices``. Only random() is promised to stay the same in every Python version."""
        return choices[self.whole(0, len(choices) - 1)]

    def whole(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int(self.random.random() * (high - low + 1))

    def order(self, items: Sequence[str], cities: Sequence[str]) -> Order:
        """A random order; three in four ask for at most twenty, where the number is often a word."""
        quantity = self.whole(2, 20) if self.whole(1, 4) > 1 else self.whole(21, 40)
        return Order(self.pick(items), quantity, self.pick(cities), self.whole(1, 12), self.whole(1, 28))

    def row(self, order: Order, frame: str) -> dict[str, str]:
        """The Alpaca row that says ``order`` in the words of ``frame``."""
        words = self.language
        text = frame.format(
            q=self.pick(words.write_quantity(order.quantity)),
            item=order.item,
            city=order.city,
            date=self.pick(words.write_date(order.month, order.day)),
            name=self.pick(words.names),
        )
        return {
            "instruction": words.instruction,
            "input": text[0].upper() + text[1:],
            "output": order.as_json(),
        }


def make_rows(key: str, language: Language) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(training rows, held-out rows) of one language."""
    maker = Maker(language, f"{SEED}-{key}")
    train, seen_pairs = [], set()
    for number in range(TRAIN_ROWS[key]):
        order = maker.order(language.train_items, language.train_cities)
        seen_pairs.add((order.item, order.city))
        train.append(maker.row(order, language.train_frames[number % len(language.train_frames)]))
    heldout: list[dict[str, str]] = []
    while len(heldout) < HELDOUT_ROWS[key]:
        if len(heldout) % 2:
            order = maker.order(language.heldout_items, language.heldout_cities)
        else:
            order = maker.order(language.train_items, language.train_cities)
            if (order.item, order.city) in seen_pairs:
                continue
        # Two rows for each frame in turn, so that every frame meets both halves.
        frame = language.heldout_frames[len(heldout) // 2 % len(language.heldout_frames)]
        heldout.append(maker.row(order, frame))
    return train, heldout


def output_folder(argv: Sequence[str] | None, description: str, below: str = "") -> Path:
    """The folder that the command line asks for with --output, made if need be; else the one of this file."""
    parser = argparse.ArgumentParser(description=description)
    here = Path(__file__).resolve().parent / below
    parser.add_argument("--output", type=Path, default=here, help="folder to write")
    folder: Path = parser.parse_args(argv).output
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object a line, in UTF-8 with Unix line ends."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(text.encode("utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Write the three files and print their sizes."""
    folder = output_folder(argv, "Write the order sets.")
    heldout_rows = []
    for key, language in (("en", ENGLISH), ("zh", CHINESE)):
        train, heldout = make_rows(key, language)
        write_jsonl(folder / f"orders_{key}.jsonl", train)
        print(f"orders_{key}.jsonl: {len(train)} rows")
        heldout_rows += heldout
    write_jsonl(folder / "orders_heldout.jsonl", heldout_rows)
    print(f"orders_heldout.jsonl: {len(heldout_rows)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
