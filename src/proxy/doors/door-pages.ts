import { randomBytes } from "node:crypto";
import { escapeHtml, htmlPage } from "../../base/html.ts";
import type { Door } from "./door.ts";
import { DOOR_PATHS } from "./local-path.ts";

/** Where forms and links of a door lead. */
export const doorPath = (door: string): string => `${DOOR_PATHS}door/${door}`;
export const CALLBACK_PATH: string = `${DOOR_PATHS}callback`;

/** Every way in that a person can take. */
export function doorPage(door: Door, to: string, alert?: string): string {
  const said = alert === undefined ? "" : `<p role="alert">${escapeHtml(alert)}</p>\n`;
  const ways: string[] = [];
  if (door.password !== undefined) {
    ways.push(
      form(door, to, "password", "Password", 'type="password" autocomplete="current-password" maxlength="1024"'),
    );
  }
  if (door.pin !== undefined) {
    ways.push(form(door, to, "pin", "PIN", 'type="password" inputmode="numeric" autocomplete="off" maxlength="32"'));
  }
  if (door.oidc !== undefined) {
    const start = `${doorPath(door.name)}/oidc?to=${encodeURIComponent(to)}`;
    ways.push(`<p><a class="button" href="${escapeHtml(start)}">Sign in with ${escapeHtml(door.oidc.label)}</a></p>`);
  }
  if (door.hasLinks) ways.push("<p>If you were given a link for this place, open that link.</p>");
  if (door.hasCertificates) {
    ways.push("<p>If you were given a certificate for this place, install it, close the browser, and come again.</p>");
  }
  if (ways.length === 0) ways.push("<p>Only programs with a token may enter here.</p>");
  return htmlPage("Who goes there?", said + ways.join("\n"));
}

function form(door: Door, to: string, way: string, label: string, attributes: string): string {
  return `<form method="post" action="${doorPath(door.name)}/enter"><input type="hidden" name="way" value="${way}">
<input type="hidden" name="to" value="${escapeHtml(to)}"><label for="${way}">${label}</label>
<input id="${way}" name="secret" required ${attributes}> <button>Enter</button></form>`;
}

/** A link is only spent by the button: programs that look at links before people do must not use them up. */
export function linkPage(path: string, to: string, guest: string): string {
  const page = randomBytes(16).toString("base64url"); // tells its button, pressed twice, from another's
  return htmlPage(
    `Welcome, ${guest}`,
    `<p>This link is yours alone. Go on only in the browser in which you want to be let in.</p>
<form method="post" action="${escapeHtml(path)}"><input type="hidden" name="to" value="${escapeHtml(to)}">
<input type="hidden" name="page" value="${page}"><button>Enter</button></form>`,
  );
}

export function leavePage(door: string): string {
  return htmlPage("Leave?", `<form method="post" action="${doorPath(door)}/leave"><button>Leave</button></form>`);
}

/** One sentence, and a way back. */
export function notePage(title: string, text: string, back?: string): string {
  const link = back === undefined ? "" : `\n<p><a href="${escapeHtml(back)}">Back to the door</a></p>`;
  return htmlPage(title, `<p>${escapeHtml(text)}</p>${link}`);
}
