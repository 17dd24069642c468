import { STATUS_CODES } from "node:http";
import { escapeHtml, htmlPage } from "../../base/html.ts";
import type { HeaderPair } from "../../identity/headers.ts";
import { addressOf, curlOf } from "./exports.ts";
import type { Recorded, RecordedBody } from "./recorder.ts";

/** `base`: the path that all pages stand below, with `/` at its end. */
export function listPage(records: readonly Recorded[], base: string): string {
  const rows = records.map(
    (record) =>
      `<tr><td>${clock(record.startedAt)}</td><td><a href="${base}requests/${record.id}">${escapeHtml(
        `${record.method} ${shortened(record.target)}`,
      )}</a></td><td>${status(record)}</td><td>${took(record)}</td><td>${origin(record)}</td></tr>`,
  );
  const none = "<p>Nothing has come yet. Load this page again when it has.</p>";
  const list = `<table><thead><tr><th>Time</th><th>Request</th><th>Answer</th><th>Took</th><th>From</th></tr></thead>
<tbody>${rows.join("\n")}</tbody></table>`;
  return htmlPage(
    "Requests",
    `${rows.length === 0 ? none : list}
<p><a href="${base}">Load again</a> · <a href="${base}all.har">All as HAR</a></p>
<form method="post" action="${base}clear"><button>Forget them</button></form>`,
  );
}

export function requestPage(record: Recorded, base: string, note?: string): string {
  const { id, answer, body, fields, isUpgrade } = record;
  const said = note === undefined ? "" : `<p role="alert">${escapeHtml(note)}</p>\n`;
  const again = isUpgrade
    ? ""
    : `<form method="post" action="${base}requests/${id}/replay"><button>Send it again</button> as a stranger: without identity,
cookies, tokens and whatever else was redacted</form>\n`;
  return htmlPage(
    `${record.method} ${shortened(record.target)}`,
    `${said}<p>${escapeHtml(addressOf(record))}<br>${clock(record.startedAt)} · ${status(record)} · ${took(record)} · ${origin(record)}</p>
${again}<h2>Request</h2>
${fieldTable(fields)}${bodyText(body)}
<h2>Answer</h2>
${answer === undefined ? "<p>None yet.</p>" : fieldTable(answer.fields) + bodyText(answer.body)}
<h2>As a command</h2>
${preformatted(curlOf(record))}
<p><a href="${base}">All requests</a> · <a href="${base}requests/${id}/har">HAR</a> · <a href="${base}requests/${id}/curl">curl</a></p>`,
  );
}

export function refusedPage(text: string): string {
  return htmlPage("Not here", `<p>${escapeHtml(text)}</p>`);
}

function fieldTable(fields: readonly HeaderPair[]): string {
  const rows = fields.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`);
  return `<table>${rows.join("\n")}</table>\n`;
}

function bodyText({ text, isWhole, totalBytes }: RecordedBody): string {
  if (totalBytes === 0) return "";
  const rest = isWhole ? "" : `<p>Not all of ${totalBytes} bytes: too long, no text, or redacted.</p>`;
  return preformatted(text) + rest;
}

/** Line by line: other control characters are shown to be there. */
function preformatted(text: string): string {
  const lines = text.split("\n").map((line) => escapeHtml(line.replace(/\r$/, "").replaceAll("\t", "  ")));
  return `<pre>${lines.join("\n")}</pre>`;
}

const clock = (ms: number): string => new Date(ms).toISOString().slice(11, 23);

function status({ answer, isUpgrade }: Recorded): string {
  if (answer === undefined) return isUpgrade ? "upgrade" : "…";
  if (answer.status === 0) return "none";
  const cut = answer.isCut ? ", cut" : "";
  return escapeHtml(`${answer.status} ${STATUS_CODES[answer.status] ?? ""}${cut}`);
}

const took = ({ answer }: Recorded): string => (answer === undefined ? "" : `${Math.round(answer.tookMs)} ms`);

function origin({ from, replayOf }: Recorded): string {
  if (replayOf !== undefined) return `again, #${replayOf}`;
  const how = { mesh: "mesh", ingress: "internet", public: "outside" }[from.kind];
  return escapeHtml(`${how} ${from.address}`);
}

const SHOWN = 80;
const shortened = (text: string): string => (text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`);
