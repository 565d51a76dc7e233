#!/usr/bin/python3
"""Counts a JUnit file of ctest or pytest.

Prints "PASSED FAILED SKIPPED", then the name of each failed test.

Called by test.sh. Does not judge: an unreadable file is an exit status of 1. A ctest test that
could not be run (missing program) is a failure; ctest marks it only by status="notrun".
"""
import sys
import xml.etree.ElementTree as ElementTree


def main() -> int:
    try:
        cases = list(ElementTree.parse(sys.argv[1]).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError, IndexError) as error:
        print(f"junit_count: {error}", file=sys.stderr)
        return 1
    passed, skipped, failed = 0, 0, []
    for case in cases:
        name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.get("status") in ("fail", "notrun"):
            failed.append(name)
        elif case.find("skipped") is not None or case.get("status") == "disabled":
            skipped += 1
        else:
            passed += 1
    print(passed, len(failed), skipped)
    for name in failed:
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
