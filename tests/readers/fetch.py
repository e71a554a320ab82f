#!/usr/bin/env python3
"""Writes the objects of a bucket into a folder, as boto3 reads them.

    fetch.py ENDPOINT BUCKET PREFIX FOLDER
"""

import os
import sys

import bucket


def main():
    endpoint, name, prefix, folder = sys.argv[1:]
    count = size = 0
    for key, body in bucket.objects(endpoint, name, prefix):
        path = os.path.join(folder, key[len(prefix):].lstrip("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(body)
        count, size = count + 1, size + len(body)
    print(f"fetched     {count} objects, {size} bytes")


if __name__ == "__main__":
    main()
