import sys
from bench.overhead.rounds import *
from bench.overhead.tables import table
from bench.overhead.subject import Framework
kind, fw, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
res = measure(table(kind, Framework(fw)), sys.argv[4:] or ["3 headers"], Plan(rounds, 200))
for case, rows in res.items():
    print(case)
    for r in rows: print(f"{r.subject:42}{r.added_us:9.1f}{r.median_us:9.1f}{r.process_us:9.1f}{r.ratio:8.2f}")
