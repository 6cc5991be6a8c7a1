"""The sides that `bench.py` holds against one another, each in a process of its own that prints JSON.

    python tests/bench_sides.py NAME WORD...

What is loaded before the clock starts is what a process that is warm has loaded: models, libraries, one page read.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

TILES = 10_000
ARTICLE_BATCH = 1024
GPU_BATCH, GPU_TILES = 8192, 1_000_000
JOBS = 2
WARMING = 4  # sheets read before the clock starts


def tiles(views: int, count: int = TILES) -> Any:
    """Tiles of noise: a network takes as long for them as for digits."""
    return np.random.default_rng(1).integers(0, 256, (count, 28, 28, views), dtype=np.uint8)


def classify(folder: str) -> float:
    """Digits a second through a model as scanning runs it, on two threads of the CPU."""
    from digitize.classify import Classifier

    classifier = Classifier(Path(folder), device="cpu", threads=2)
    classifier.probabilities(tiles(2, 1000))
    some = tiles(2)
    began = time.perf_counter()
    classifier.probabilities(some)
    return TILES / (time.perf_counter() - began)


def predict() -> float:
    """Digits a second through Keras' `predict` of `article`."""
    from digitize import network

    some = tiles(1)
    model = network.with_softmax(network.build("article"))
    model.predict(some[:ARTICLE_BATCH], batch_size=ARTICLE_BATCH, verbose=0)
    began = time.perf_counter()
    model.predict(some, batch_size=ARTICLE_BATCH, verbose=0)
    return TILES / (time.perf_counter() - began)


def on_gpu() -> dict[str, Any]:
    """Tiles a second through the default classifier on the first GPU, and what that is."""
    from digitize import models
    from digitize.classify import Classifier

    classifier = Classifier(models.find(), device="gpu", batch_size=GPU_BATCH)
    some = tiles(2, GPU_BATCH)
    classifier.probabilities(some)
    began = time.perf_counter()
    for _ in range(GPU_TILES // GPU_BATCH):
        classifier.probabilities(some)
    rate = GPU_TILES // GPU_BATCH * GPU_BATCH / (time.perf_counter() - began)
    return {"rate": rate, "where": classifier.description, "batch": GPU_BATCH}


def scan(folder: str) -> float:
    """Pages a second through two warm processes, from files to a CSV."""
    from digitize import batch, sheets, workers, write

    found = sheets.find([folder])
    generator = write.Generator("bench", "", "")
    with workers.Pool(batch.Recipe(device="cpu", threads=1), workers=JOBS) as pool, tempfile.TemporaryFile("w") as out:
        pool.start()
        while pool.idle < JOBS:
            pool.wait(None)
        for _ in pool.read(found[:WARMING]):
            pass
        pages = 0

        def counted() -> Any:
            nonlocal pages
            for reading in pool.read(found):
                pages += len(reading.pages)
                yield reading

        began = time.perf_counter()
        write.WRITERS["csv"](counted(), out, generator)
        return pages / (time.perf_counter() - began)


def decode(folder: str) -> float:
    """Images a second through `cv2.imread` in two processes."""
    return _through(_imread, folder)


def render(folder: str) -> float:
    """Pages a second through pypdfium2 at 300 dpi in two processes."""
    return _through(_rendered, folder)


def _through(work: Callable[[str], int], folder: str) -> float:
    files = [str(path) for path in sorted(Path(folder).iterdir())]
    with ProcessPoolExecutor(JOBS, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(work, (files * WARMING)[: WARMING * JOBS]))
        began = time.perf_counter()
        pages = sum(pool.map(work, files))
        return pages / (time.perf_counter() - began)


def _imread(file: str) -> int:
    import cv2

    return int(cv2.imread(file, cv2.IMREAD_GRAYSCALE) is not None)


def _rendered(file: str) -> int:
    import pypdfium2

    document = pypdfium2.PdfDocument(file)
    for page in document:
        page.render(scale=300 / 72, grayscale=True).to_numpy()
    return len(document)


def read(*files: str) -> list[dict[str, float]]:
    """What a warm process takes to read each file alone: seconds of CPU on one thread, and its peak memory in MiB.

    Seconds of CPU, since what else the machine does can be told from a long page by nothing else.
    """
    from digitize import batch, sheets

    reader = batch.Recipe(device="cpu", threads=1)()
    found = sheets.find(list(files))
    reader.read(found[0])
    taken = []
    for sheet in found:
        began = time.process_time()
        reader.read(sheet)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        taken.append({"cpu": time.process_time() - began, "mib": peak})
    return taken


def page(file: str) -> float:
    """Seconds in which a warm process reads a page on all cores."""
    from digitize import batch, sheets

    reader = batch.Recipe(device="cpu")()
    (sheet,) = sheets.find([file])
    reader.read(sheet)
    began = time.perf_counter()
    reader.read(sheet)
    return time.perf_counter() - began


def tutorial(file: str) -> float:
    """Seconds for the same page the tutorials' way: Otsu's threshold, contours, and a `predict` for every digit."""
    import cv2

    from digitize import network

    model = network.with_softmax(network.build("article"))
    model.predict(tiles(1, 1), verbose=0)
    began = time.perf_counter()
    gray = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
    _, ink = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(ink, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        left, top, width, height = cv2.boundingRect(contour)
        if height >= 20:
            digit = cv2.resize(ink[top : top + height, left : left + width], (20, 20), interpolation=cv2.INTER_AREA)
            model.predict(np.pad(digit, 4)[None, ..., None], verbose=0)
    return time.perf_counter() - began


def rapidocr(file: str) -> float:
    """Seconds in which RapidOCR, its models loaded, reads the same page."""
    from rapidocr_onnxruntime import RapidOCR

    engine = RapidOCR()
    engine(file)
    began = time.perf_counter()
    engine(file)
    return time.perf_counter() - began


SIDES: dict[str, Callable[..., Any]] = {
    side.__name__: side for side in (classify, predict, on_gpu, scan, decode, render, read, page, tutorial, rapidocr)
}

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name, *words = sys.argv[1:]
    print(json.dumps(SIDES[name](*words)))
