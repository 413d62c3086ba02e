"""The measures of the Cell Tracking Challenge, restated as its papers say them, slowly.

Matula et al., PLoS ONE 2015: the acyclic oriented graphs matching measure (AOGM), with weights
5, 10, 1, 1, 1.5, 1 for splits, missed and false objects, false, missed and wrong links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

Node = tuple[int, int]
Edge = tuple[Node, Node]


def graph(
    frames: Sequence[np.ndarray], parents: Mapping[int, int]
) -> tuple[set[Node], dict[Edge, bool]]:
    """Objects of frames, and the links between them: True for links to a mother."""
    shown: dict[int, list[int]] = {}
    for number, frame in enumerate(frames):
        for label in np.unique(frame).tolist():
            if label:
                shown.setdefault(label, []).append(number)
    edges: dict[Edge, bool] = {}
    for label, at in shown.items():
        for one, other in pairwise(at):
            edges[(one, label), (other, label)] = other > one + 1
        mother = parents.get(label, 0)
        if mother:
            edges[(shown[mother][-1], mother), (at[0], label)] = True
    return {(at, label) for label, ats in shown.items() for at in ats}, edges


def plain_tra(
    true: Sequence[np.ndarray],
    true_parents: Mapping[int, int],
    found: Sequence[np.ndarray],
    found_parents: Mapping[int, int],
) -> tuple[float, float]:
    """TRA and DET of a movie."""
    nodes, edges = graph(true, true_parents)
    found_nodes, found_edges = graph(found, found_parents)
    partner: dict[Node, Node] = {}
    for number, label in nodes:
        inside = true[number] == label
        for other in np.unique(found[number][inside]).tolist():
            if other and 2 * (found[number][inside] == other).sum() > inside.sum():
                partner[number, label] = (number, other)
    back: dict[Node, list[Node]] = {}
    for node, other in partner.items():
        back.setdefault(other, []).append(node)
    only = {other: its[0] for other, its in back.items() if len(its) == 1}
    splits = sum(len(its) - 1 for its in back.values())
    missed = len(nodes) - len(partner)
    false = len(found_nodes - back.keys())
    right, false_links, wrong = set(), 0, 0
    for (one, other), descends in found_edges.items():
        if one not in only or other not in only:
            continue
        edge = only[one], only[other]
        if edge in edges:
            right.add(edge)
            wrong += edges[edge] != descends
        else:
            false_links += 1
    missed_links = len(edges) - len(right)
    detection = 5 * splits + 10 * missed + false
    tracking = detection + false_links + 1.5 * missed_links + wrong
    worst = 10 * len(nodes)
    all_worst = worst + 1.5 * len(edges)
    return 1 - min(tracking, all_worst) / all_worst, 1 - min(detection, worst) / worst
