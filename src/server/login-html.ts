import { escapeHtml, htmlPage as page } from "../base/html.ts";
import type { PendingLogin } from "../coordination/pending-logins.ts";
import type { User } from "../coordination/records.ts";

/** Enough of the key to compare by eye. */
const FINGERPRINT_CHARACTERS = 16;

/** What the device says of itself is a claim: the end of its key is what can be compared. */
function device({ hostinfo, nodeKey }: PendingLogin): string {
  const tags = hostinfo.RequestTags?.join(", ") ?? "";
  return `<dl><dt>Device</dt><dd>${escapeHtml(hostinfo.Hostname ?? "without a name")} (${escapeHtml(hostinfo.OS ?? "unknown system")})</dd>
<dt>Key</dt><dd><code>…${escapeHtml(nodeKey.slice(-FINGERPRINT_CHARACTERS))}</code></dd>
${tags === "" ? "" : `<dt>Asks for</dt><dd>${escapeHtml(tags)}</dd>`}</dl>`;
}

/** For a server without sign-in: what its owner must run. */
export function waitingPage(login: PendingLogin): string {
  return page(
    "A device wants to join",
    `${device(login)}
<p>To let it in, run this where the server runs, with the user it belongs to:</p>
<p><code>sallyport server nodes approve ${escapeHtml(login.id)} --user alice@example.com</code></p>`,
  );
}

export function signInPage(login: PendingLogin): string {
  return page(
    "A device wants to join",
    `${device(login)}
<p>If it is yours, <a class="button" href="/oidc/start?login=${encodeURIComponent(login.id)}">sign in</a> to let it in.</p>`,
  );
}

export function confirmPage(login: PendingLogin, user: User, token: string): string {
  return page(
    `Let this device in as ${user.login}?`,
    `${device(login)}
<p>It will act in your name. Go on only if you have just started it and the key is the one that it shows.</p>
<form method="post" action="/oidc/confirm"><input type="hidden" name="token" value="${escapeHtml(token)}">
<button>Let it in</button></form>`,
  );
}

export function approvedPage(user: User, needsApproval: boolean): string {
  if (needsApproval) {
    const text = "Whoever runs this network has to approve it before it may use the network. You can close this page.";
    return page("The device waits", `<p>It belongs to ${escapeHtml(user.login)}. ${text}</p>`);
  }
  return page("The device is in", `<p>It belongs to ${escapeHtml(user.login)}. You can close this page.</p>`);
}

export function overPage(): string {
  return page("This login is over", "<p>It was answered, or waited too long. Start it on the device again.</p>");
}

export function refusedPage(why: string): string {
  return page("Not let in", `<p>${escapeHtml(why)}</p>`);
}
