"""Colours and sizes of the dock, on top of napari's theme (light or dark)."""

from __future__ import annotations

ACCENT = "#2f7fd1"  # legible under white text, on a light and on a dark ground
# As on the canvas, darker: colour-blind eyes tell bluish green from vermilion.
POSITIVE = "#0b7d62"
NEGATIVE = "#b4500f"

_COLOURED = """
KeyButton[role="{role}"] {{ background-color: {ground}; color: white; }}
KeyButton[role="{role}"]:hover {{ background-color: {hover}; }}
KeyButton[role="{role}"]:pressed {{ background-color: {pressed}; }}
KeyButton[role="{role}"]:disabled {{
    background-color: rgba(128, 128, 128, 40); color: rgba(128, 128, 128, 160);
}}
"""

STYLE = (
    """
KeyButton:disabled { color: rgba(128, 128, 128, 160); }
KeyButton[role="primary"] { font-weight: bold; padding: 7px; }
QLabel { background: transparent; }
QFrame#TinySAMStatus {
    background-color: rgba(128, 128, 128, 28);
    border-radius: 4px;
}
QProgressBar {
    background-color: rgba(128, 128, 128, 60);
    border: 0px;
    border-radius: 2px;
}
QProgressBar::chunk {
    background-color: #2f7fd1;
    border-radius: 2px;
}
QScrollArea { border: 0px; }
QSpinBox { min-width: 36px; }
QToggleSwitch { font-weight: bold; }
QPushButton#TinySAMSection, QPushButton#TinySAMSection:checked {
    background-color: transparent;
    border: 0px;
    color: rgba(128, 128, 128, 255);
    font-weight: bold;
    padding: 2px 0px;
    text-align: left;
}
QPushButton#TinySAMSection:hover { color: rgba(160, 160, 160, 255); }
"""
    + _COLOURED.format(
        role="primary", ground=ACCENT, hover="#4590dd", pressed="#2568ad"
    )
    + _COLOURED.format(
        role="positive", ground=POSITIVE, hover="#12957a", pressed="#08624d"
    )
    + _COLOURED.format(
        role="negative", ground=NEGATIVE, hover="#cb6420", pressed="#91400b"
    )
)
