"""What bench/compare found, as a table in Markdown, a plot in SVG, and JSON with every run."""

import json
import statistics

PLOT_WIDTH, ROW_HEIGHT, NAMES_WIDTH, FIGURES_WIDTH, MARGIN = 720, 34, 130, 90, 16


def write(results, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "benchmarks.md").write_text(markdown(results), encoding="utf-8")
    (folder / "benchmarks.svg").write_text(plot(results["outcomes"]), encoding="utf-8")


def table(results):
    lines = ["| case | Cortex | peer | | times as fast: median [least - greatest] | goal |",
             "| --- | ---: | --- | ---: | ---: | ---: |"]
    for outcome in results["outcomes"]:
        peer = outcome["peer"]
        lines.append(f"| {outcome['case']['name']} | {figure(outcome['cortex'])} | {peer['name']} | {figure(peer)} "
                     f"| {outcome['ratio']:.2f} [{outcome['least_ratio']:.2f} - {outcome['greatest_ratio']:.2f}] "
                     f"| {outcome['case']['goal']:g} |")
    if results["cosines"]:
        lines += ["", f"Cosine of Cortex's and ONNX Runtime's embeddings of {len(results['cosines'])} texts: "
                      f"least {min(results['cosines']):.6f}, mean {statistics.mean(results['cosines']):.6f}."]
    return "\n".join(lines)


def figure(side):
    return f"{side['tokens_per_second']:.0f} tokens/s ({side['ms']:.1f} ms)"


def markdown(results):
    setting = [f"- {name}: {value}" for name, value in results["setting"].items()]
    parts = ["# Benchmarks", table(results), "![Times as fast as the peer](benchmarks.svg)", "## Setting",
             "\n".join(setting), "## Raw runs",
             "Milliseconds of a run, the mean of each measurement's, in the order they were made."]
    parts += [raw_runs(outcome) for outcome in results["outcomes"]]
    return "\n\n".join(parts) + "\n"


def raw_runs(outcome):
    lines = [f"### {outcome['case']['name']}", ""]
    for side in (outcome["cortex"], outcome["peer"]):
        precision = f"; {side['precision']}" if side["precision"] else ""
        lines.append(f"- {side['name']}: `{side['command']}`{precision}")
    first = outcome["quads"][0]
    own, peers = len(first["cortex_ms"][0]), len(first["peer_ms"][0])
    lines += ["", f"| quad | Cortex ({own} runs) | peer ({peers} runs) | peer | Cortex | ratio |",
              "| ---: | ---: | ---: | ---: | ---: | ---: |"]
    for number, quad in enumerate(outcome["quads"], start=1):
        (begin, end), (second, third) = quad["cortex_ms"], quad["peer_ms"]
        means = " | ".join(f"{statistics.mean(runs):.2f}" for runs in (begin, second, third, end))
        lines.append(f"| {number} | {means} | {quad['ratio']:.3f} |")
    return "\n".join(lines)


def plot(outcomes):
    """A bar a case as long as its median ratio, with a line from the least to the greatest and a mark at the goal."""
    greatest = max([1.0, *(max(o["greatest_ratio"], o["case"]["goal"]) for o in outcomes)])
    scale = (PLOT_WIDTH - NAMES_WIDTH - FIGURES_WIDTH) / greatest
    height = 2 * MARGIN + ROW_HEIGHT * (len(outcomes) + 1)

    def x(ratio):
        return f"{NAMES_WIDTH + ratio * scale:.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PLOT_WIDTH} {height}" font-family="sans-serif" '
             'font-size="13">', f'<rect width="{PLOT_WIDTH}" height="{height}" fill="white"/>']
    for row, outcome in enumerate(outcomes):
        top = MARGIN + row * ROW_HEIGHT
        middle = top + ROW_HEIGHT / 2
        goal = outcome["case"]["goal"]
        parts += [
            f'<text x="{NAMES_WIDTH - 8}" y="{middle + 4}" text-anchor="end">{outcome["case"]["name"]}</text>',
            f'<rect x="{x(0)}" y="{top + 7}" width="{outcome["ratio"] * scale:.1f}" height="{ROW_HEIGHT - 14}" '
            'fill="#4a7fb5"/>',
            f'<path d="M{x(outcome["least_ratio"])} {middle}H{x(outcome["greatest_ratio"])}" stroke="#12304f" '
            'stroke-width="2"/>',
            f'<path d="M{x(goal)} {top + 3}V{top + ROW_HEIGHT - 3}" stroke="#c2491d" stroke-width="2"/>',
            f'<text x="{NAMES_WIDTH + max(outcome["greatest_ratio"], goal) * scale + 8:.1f}" y="{middle + 4}">'
            f'{outcome["ratio"]:.2f}</text>',
        ]
    bottom = MARGIN + ROW_HEIGHT * len(outcomes)
    parts += [f'<path d="M{x(1)} {MARGIN}V{bottom}" stroke="#555" stroke-dasharray="4 3"/>',
              f'<text x="{NAMES_WIDTH}" y="{bottom + 20}">times as fast as the peer (dashed: as fast; red: the goal; '
              'dark: least to greatest)</text>', "</svg>"]
    return "\n".join(parts) + "\n"
