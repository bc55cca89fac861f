#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Joins the rows that the programs of examples/models wrote, and prints them as a table.

    scripts/join_results.py out/models/results.json out/models/gnn.json ...
"""

import argparse
import json
import os
import sys

FIELDS = ("model", "method", "bits", "metric", "value", "fp32_value", "bytes", "latency_ms", "peer", "peer_latency_ms")


def read(path):
    """The rows of a file; an error if one lacks a field or has another."""
    with open(path, encoding="utf-8") as file:
        rows = json.load(file)
    if not isinstance(rows, list):
        raise ValueError("not a list of rows")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(FIELDS):
            raise ValueError(f"row {number} does not have the fields {', '.join(FIELDS)}")
    return rows


def table(rows):
    """Lines of columns; numbers right, what is not there empty."""
    head = ("model", "method", "bits", "metric", "value", "fp32", "bytes", "ms", "peer", "ms")
    formats = {"value": "{:.2f}", "fp32_value": "{:.2f}", "latency_ms": "{:.3f}", "peer_latency_ms": "{:.3f}"}
    cells = [head]
    for row in rows:
        cells.append(["" if row[f] is None else formats.get(f, "{}").format(row[f]) for f in FIELDS])
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    left = (0, 1, 2, 3, 8)
    return ["  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
            for line in cells]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("joined")
    parser.add_argument("parts", nargs="+")
    arguments = parser.parse_args()
    rows = []
    for path in arguments.parts:
        try:
            rows += read(path)
        except (OSError, ValueError) as error:
            sys.exit(f"join_results: {path}: {error}")
    part = arguments.joined + ".part"  # the whole file or nothing of it
    with open(part, "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
        file.write("\n")
    os.replace(part, arguments.joined)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
