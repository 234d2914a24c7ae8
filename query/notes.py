"""Remarks to be said under a table or a figure."""

from __future__ import annotations


class Notes:
    """What is to be said under a figure; the same remark about several sites is made once."""

    def __init__(self, *always: str) -> None:
        self._places: dict[str, list[str]] = {note: [] for note in always}

    def add(self, note: str, place: str = "") -> None:
        places = self._places.setdefault(note, [])
        if place and place not in places:
            places.append(place)

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{_several(places)}: {note}" if places else note for note, places in self._places.items())


def _several(places: list[str]) -> str:
    return ", ".join(places) if len(places) <= 4 else f"{places[0]} … {places[-1]} ({len(places)} sites)"
