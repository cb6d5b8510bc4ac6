"""Prints the table of docs/conformance.md from the outputs of `chainrule conform --json` for two servers.

Usage: python conformance.py CHAINRULE.json OTHER.json
"""

import json
import sys


def main():
    ours, other = (json.load(open(path)) for path in sys.argv[1:3])
    theirs = {case["case"]: case for case in other["cases"]}
    print(f"| case | {ours['server']} | {other['server']} | what {other['server'].split()[0]} answered |")
    print("| --- | --- | --- | --- |")
    for case in ours["cases"]:
        found = theirs[case["case"]]
        seen = found["seen"] if found["result"] != "ok" else ""
        seen = seen.split(' File "')[0].replace("|", "\\|").replace("<", "&lt;")
        print(f"| {case['case']} | {case['result']} | {found['result']} | {seen} |")
    print(f"| **failed** | **{ours['failed']}** | **{other['failed']}** | |")


if __name__ == "__main__":
    main()
