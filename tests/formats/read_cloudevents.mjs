// SPDX-FileCopyrightText: cellos-telemetry contributors
// SPDX-License-Identifier: LGPL-2.1-or-later

// Reads CloudEvents, one JSON object a line, from standard input with the npm package `cloudevents`,
// and refuses what it refuses. The package is looked for where this file is run.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const { HTTP } = require("cloudevents");
const headers = { "content-type": "application/cloudevents+json" };

function read(body) {
  const event = HTTP.toEvent({ headers, body });
  if (event.validate() !== true) // throws, or says false for a version that it does not know
    throw new Error("not valid");
  return event;
}

function passes(body) {
  try {
    read(body);
    return true;
  } catch {
    return false;
  }
}

function check(condition, what) {
  if (!condition) {
    console.log(`wrong: ${what}`);
    process.exit(1);
  }
}

const kept = ["specversion", "id", "source", "type", "subject", "dataschema", "datacontenttype"];
// The package makes up an id or a time where there is none, and refuses these.
const wrong = [["specversion", "9.9"], ["id", 7], ["source", ""], ["source", "a b"], ["type", ""],
               ["type", 7], ["subject", 7], ["dataschema", "no uri"], ["datacontenttype", 7],
               ["Bad_name", "x"], ["source", undefined], ["type", undefined]];
const ids = new Set();
let count = 0, refused = 0;

// By the line feed alone: node's readline would end a line at a name's U+2028, too.
for (const line of readFileSync(0, "utf8").split("\n").slice(0, -1)) {
  const plain = JSON.parse(line);
  let event;
  try {
    event = read(line);
  } catch (error) {
    check(false, `${error.message} ${JSON.stringify(error.errors)}: ${line}`);
  }
  for (const key of kept)
    check(event[key] === plain[key], `${key} is read as ${event[key]}: ${line}`);
  check(Date.parse(event.time) === Date.parse(plain.time), `time is read as ${event.time}: ${line}`);
  check(typeof event.data === "object" && Object.keys(event.data).length > 5, `no data: ${line}`);
  ids.add(`${event.source} ${event.id}`);
  count++;
  for (const [key, value] of wrong) {
    check(!passes(JSON.stringify({ ...plain, [key]: value })), `${key} ${value} is let pass`);
    refused++;
  }
}
check(count > 0, "no line came");
console.log(`${count} CloudEvents read, ${ids.size} different; ${refused} changed ones refused`);
