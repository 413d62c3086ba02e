"""Which pairs of objects belong together: the assignment problem (Kuhn, 1955), sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def best_pairs(
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    worth: npt.NDArray[np.float64],
) -> npt.NDArray[np.intp]:
    """Choose pairs with the largest sum, no object twice; each group of rivals by itself.

    Parameters
    ----------
    rows, columns : ndarray of int, (K,)
        The objects of each pair.
    worth : ndarray of float64, (K,)
        Above 0.

    Returns
    -------
    ndarray of int, (N,)
        Which pairs, ascending.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return np.zeros(0, np.intp)
    height, width = int(rows.max()) + 1, int(columns.max()) + 1
    size = height + width
    graph = coo_array((np.ones(len(rows)), (rows, columns + height)), (size, size))
    _, group = connected_components(graph, directed=False)
    group = group[rows]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    chosen = []
    for members in np.split(order, starts[1:]):
        if len(members) == 1:
            chosen.append(members)
            continue
        row_ids, row = np.unique(rows[members], return_inverse=True)
        column_ids, column = np.unique(columns[members], return_inverse=True)
        table = np.zeros((len(row_ids), len(column_ids)))
        table[row, column] = worth[members]
        pair = np.full(table.shape, -1, np.intp)
        pair[row, column] = members
        best = pair[linear_sum_assignment(table, maximize=True)]
        chosen.append(best[best >= 0])
    return np.sort(np.concatenate(chosen))
