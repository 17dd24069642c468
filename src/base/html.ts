import { createHash } from "node:crypto";

const STYLE = `body{font:16px/1.5 system-ui;max-width:42rem;margin:4rem auto;padding:0 1rem}
code,pre{background:#eee;padding:.2em .4em;word-break:break-all;white-space:pre-wrap}dt,label,th{font-weight:600}
h1,p,td{overflow-wrap:anywhere}label,.button{display:block}.button{width:fit-content}form{margin:0 0 1em}input{font:inherit;padding:.4em;margin:.2em 0 1em;width:100%;max-width:20rem;box-sizing:border-box}
button,.button{font:inherit;padding:.5em 1em;background:#136;color:#fff;border:0;border-radius:.3em;text-decoration:none}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2em .6em .2em 0;vertical-align:top}
[role=alert]{border-left:.3em solid #a00;padding-left:.6em}`;
const STYLE_DIGEST: string = createHash("sha256").update(STYLE).digest("base64");

/** A page of ours: one style, no script, nothing from elsewhere. `body` is HTML. */
export function htmlPage(title: string, body: string): string {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title><style>${STYLE}</style><main><h1>${escapeHtml(title)}</h1>
${body}
</main></html>
`;
}

/** What goes with such a page: no script, no frame around it, and forms go where `formAction` says. */
export function htmlPageHeaders(formAction: string = "'self'"): readonly (readonly [name: string, value: string])[] {
  const policy = `default-src 'none'; style-src 'sha256-${STYLE_DIGEST}'; form-action ${formAction}`;
  return [
    ["Content-Type", "text/html; charset=utf-8"],
    ["Content-Security-Policy", `${policy}; frame-ancestors 'none'; base-uri 'none'`],
    ["X-Frame-Options", "DENY"],
    ["X-Content-Type-Options", "nosniff"],
    // Not `no-referrer`: with it browsers would hide the origin of our own forms, which is what we check.
    ["Referrer-Policy", "same-origin"],
    ["Cache-Control", "no-store"],
  ];
}

export function escapeHtml(text: string): string {
  // Controls and direction marks could show one name and mean another.
  return text.replace(/[\p{Cc}\p{Cf}]/gu, "\ufffd").replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
