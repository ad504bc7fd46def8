"""What `build`, `plan` and `why` say to people, on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.command import say
from shared.number_text import counts_text, human_bytes, human_seconds

if TYPE_CHECKING:
    from data_engine.build import BuildReport


def say_report(report: BuildReport) -> None:
    """Say what stands in the store now and what was done for it."""
    manifest = report.version.manifest
    done = "found, nothing to compute" if report.found else f"built in {human_seconds(report.seconds)}"
    size = human_bytes(manifest.bytes)
    say(f"{manifest.label}: {manifest.rows} rows, {manifest.rejected} rejected, {len(manifest.shards)} shards, {size}")
    for step in report.steps:
        cells = f"{step.computed} computed, {step.reused} reused" if step.computed or step.reused else ""
        say(f"  {step.name:<26}{step.rows_in:>8} -> {step.rows_out:<8}{human_seconds(step.seconds):>12}  {cells}")
    if manifest.rejected:
        from data_engine.findings import reason_counts

        say(f"  removed: {counts_text(reason_counts(report.version.ledger()))}")
    for warning in manifest.warnings:
        say(f"  note: {warning}")
    say(f"{done}: {report.version.place}")


def say_plan(plan: Mapping[str, Any]) -> None:
    """Say what would happen."""
    if plan["version"]:
        say(f"{plan['dataset']}@{plan['version']} stands there already: nothing would run")
        return
    say(f"{plan['dataset']} ({plan['profile']}): {plan['rows']} rows, {plan['images']} images from {plan['source']}")
    if plan["reasons"]:
        say(f"  refused by the source: {counts_text(plan['reasons'])}")
    for note in plan["notes"]:
        say(f"  note: {note}")
    for step in plan["steps"]:
        calls = f"{step['model_calls']} model calls, {step['reused']} reused" if step["model"] else step["note"]
        if step["model"] and step["note"]:
            say(f"  note: {step['note']}")
        say(f"  {step['name']:<26}{calls:<44}{human_seconds(step['seconds']):>12}")
    say(f"{plan['model_calls']} model calls, about {human_seconds(plan['seconds'])} ({plan['formula']})")
    if plan["assumed_rates"]:
        say(f"  assumed, since no version here tells the pace of: {', '.join(plan['assumed_rates'])}")
    say("about {reads} reads and {writes} writes of the store".format(**plan["store_requests"]))


def say_story(story: Mapping[str, Any]) -> None:
    """Say what happened to a row, in every version that knows it."""
    for told in story["versions"]:
        verdict = "kept" if told["kept"] else "removed"
        say(f"{story['id']}: {verdict} in {told['label']}")
        source = told.get("source", {})
        words = [source.get(name) or "" for name in ("source_name", "source_id", "source_location")]
        say("  source: {} {} in {}".format(*words))
        for key in ("question", "answer"):
            if told.get(key):
                say(f"  {key}: {_short(told[key])}")
        for name, finding in told.get("steps", {}).items():
            say(f"  {name}: {_short(finding)}")
        for entry in told.get("ledger", []):
            where = f" {entry['benchmark']}/{entry['item']}" if entry["benchmark"] else f" {entry['item'] or ''}"
            score = "" if entry["score"] is None else f" score {entry['score']:.3f}"
            removed = "removed by" if entry["removed"] else "near miss of"
            say(f"  {removed} {entry['step']} {entry['rule']}{where}{score}")
            say(f"    {_short(entry['evidence'])}")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:297]}..."
