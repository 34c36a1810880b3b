# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""The schemas of docs/schemas as one validator, and what a schema cannot say of a line."""

import json
import pathlib

import jsonschema

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "schemas"
URN = "urn:cellos:schema:"


def load_schemas():
    """All schemas by their $id; each of them is itself a valid schema."""
    found = {}
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.Draft7Validator.check_schema(schema)
        name = path.name.removesuffix(".schema.json")
        assert schema["$id"] == URN + name, f"{path.name} calls itself {schema['$id']}"
        found[schema["$id"]] = schema
    assert len(found) >= 10, f"only {len(found)} schemas in {SCHEMAS}"
    return found


class Validator:
    def __init__(self):
        self.schemas = load_schemas()
        self.made = {}

    def by_name(self, name):
        if name not in self.made:
            schema = self.schemas[URN + name]
            resolver = jsonschema.RefResolver(URN + name, schema, store=self.schemas)
            self.made[name] = jsonschema.Draft7Validator(schema, resolver=resolver)
        return self.made[name]

    def schema_of(self, form, line):
        """The name of the schema that a line of this format must keep to."""
        if form == "raw":
            return "raw-report" if "report" in line else "raw-event"
        return form

    def fault(self, form, line):
        """None, or the first thing that is wrong with a line."""
        if not isinstance(line, dict):
            return "no object"
        for error in self.by_name(self.schema_of(form, line)).iter_errors(line):
            return error.message[:300]
        return None


def no_duplicates(pairs):
    found = dict(pairs)
    assert len(found) == len(pairs), f"a key stands twice: {[key for key, _ in pairs]}"
    return found


def parse(text):
    return json.loads(text, object_pairs_hook=no_duplicates)


def declaration(form, line):
    """The stamped declaration or report inside a line."""
    if form == "raw":
        return line
    return line["data"] if form == "cloudevents" else line["data"]["unmapped"]


def check_agreement(form, line):
    """The envelope repeats what stands inside; both must say the same."""
    if form == "raw":
        return
    inside = declaration(form, line)
    number = f"r{inside['report_seq']}" if "report" in inside else str(inside["seq"])
    cell, run = inside["cell_id"], inside["run_id"]
    kind = inside["type"] if "report" in inside else (
        "cell.observability.guest." + inside["probe_source"])
    subject = f"agent/{inside['incarnation']}" if "report" in inside else (
        f"pid/{inside['guest_pid']}")
    expected = {"id": f"{cell}/{run}/{inside['incarnation']}/{number}",
                "source": f"/cellos/{cell}/{run}", "type": kind, "subject": subject,
                "time": inside["host_received_at"]}
    for key, value in expected.items():
        assert line[key] == value, f"{key} is {line[key]}, the data says {value}"
    if form == "ocsf":
        check_ocsf(line["data"], inside, expected["id"])


def check_ocsf(data, inside, identity):
    assert data["metadata"]["uid"] == identity
    assert data["metadata"]["correlation_uid"] == inside["run_id"]
    assert data["device"]["uid"] == inside["cell_id"]
    assert data["type_uid"] == data["class_uid"] * 100 + data["activity_id"]
    names = {1: "Informational", 2: "Low", 3: "Medium", 4: "High"}
    assert names[data["severity_id"]] == data["severity"]
    if "process" in data:
        assert data["process"] == {"pid": inside["guest_pid"], "name": inside["guest_comm"]}
