# SPDX-License-Identifier: MIT
"""read_csv with object columns, str.split, groupby, del.  usage: pandas_csv.py CSV ROWS (the file is made when missing)"""
import os
import sys

path, rows = sys.argv[1], int(sys.argv[2])
if not os.path.exists(path):
    with open(path + ".part", "w") as csv:
        csv.write("name,city,value\n")
        for i in range(rows):
            csv.write(f"first{i * 7919 % 100003} last{i % 911},city-{i * 31 % 200},{i * 37 % 1000 / 10}\n")
    os.rename(path + ".part", path)
else:
    import pandas

    frame = pandas.read_csv(path)
    frame["last"] = frame["name"].str.split(" ").str[1]
    totals = frame.groupby(["city", "last"])["value"].sum()
    kept = frame["name"].iloc[:: max(1, rows // 20)].tolist()
    del frame
    print(len(totals), round(float(totals.sum()), 2), len(kept))
