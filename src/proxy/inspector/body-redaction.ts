import { decoded, redactParameters } from "./redaction.ts";
import { redactAssigned, redactMembers } from "./secret-members.ts";
import { isSecretName } from "./secret-names.ts";
import { REDACTED, redactShapes } from "./secret-shapes.ts";

/**
 * Forms, JSON and markup by the names of what is in them; of several parts none is kept when one is secret. What a body is, it shows
 * itself: `fetch` calls JSON a plain text, and `curl -d` calls it a form.
 */
export function redactBody(text: string, type: string): string {
  return redactShapes(redactNamed(text, type));
}

function redactNamed(text: string, type: string): string {
  if (/^multipart\//i.test(type) || /^--\S{1,200}\r?\ncontent-disposition: form-data/i.test(text)) {
    const names = [...text.matchAll(/name="?([^";\r\n]*)/gi)].map(([, name]) => name ?? "");
    return names.some((name) => isSecretName(name)) ? REDACTED : text;
  }
  if (/css/i.test(type)) return text;
  const shown = redactMembers(text);
  if (/^application\/x-www-form-urlencoded/i.test(type)) return redactParameters(shown);
  if (/json/i.test(type) || /^[\s\ufeff]{0,100}[{[]/.test(text)) return redactLinks(shown);
  if (/javascript/i.test(type)) return redactAssigned(shown);
  const isMarkup = /html|xml/i.test(type) || /^[\s\ufeff]{0,100}</.test(text);
  if (isMarkup) return redactLinks(redactAssigned(redactMarkup(shown, type)));
  return redactLinks(redactLines(redactAssigned(shown)));
}

/** Addresses in whatever text: `&`, in JSON and in markup, may be spelled in other ways. */
function redactLinks(text: string): string {
  return text.replace(/([?&;]|\\u0026)([\w.%-]{1,64})=[^\s&"'<>#;\\)]+/g, (whole, mark: string, name: string) =>
    isSecretName(decoded(name)) ? `${mark}${name}=${REDACTED}` : whole,
  );
}

/** A form that says it is a text, settings, YAML: one word after a name, which may stand in the line before. */
function redactLines(text: string): string {
  const forms = text.replace(/^(?:export )?[\w.%[\]-]{1,64}=\S+$/gm, (line) => redactParameters(line));
  const named = forms.replace(
    /^([ \t-]{0,64}(?:name|key):[ \t]{1,8}["']?([\w.-]{1,64})["']?[ \t]{0,8}\r?\n[ \t]{0,64}value:[ \t]{1,8})\S.*$/gm,
    (whole, before: string, name: string) => (isSecretName(name) ? before + REDACTED : whole),
  );
  return named.replace(
    /^([ \t-]{0,64})([\w.-]{1,64})(:[ \t]{1,8}|[ \t]=[ \t])\S+$/gm,
    (whole, before, name: string, sign) => (isSecretName(name) ? `${before}${name}${sign}${REDACTED}` : whole),
  );
}

const NAMED = /\b(?:name|id|key)\s?=\s?["']?([\w.:[\]-]{1,64})/i;
const isNamedSecret = (attributes: string): boolean => isSecretName(NAMED.exec(attributes)?.[1] ?? "");

function redactMarkup(text: string, type: string): string {
  const tags = text.replace(/<[a-z][\w:.-]{0,63}\s[^<>]{0,2000}>/gi, (tag) => {
    if (!isNamedSecret(tag) && !/\btype\s?=\s?["']?password/i.test(tag)) return tag;
    return tag.replace(/\b(value|content)(\s?=\s?)(?:"[^"]*"|'[^']*'|[^\s>]+)/gi, `$1$2"${REDACTED}"`);
  });
  const isPage = /html/i.test(type);
  return tags.replace(
    /<([\w:.-]{1,64})(\s[^<>]{0,500})?>(?:[^<>]{1,4096}|\s{0,64}<!\[CDATA\[[^\]]{0,512}\]\]>\s{0,64})<\//g,
    (whole, name: string, attributes: string = "") => {
      const isSecret = isPage
        ? name.toLowerCase() === "textarea" && isNamedSecret(attributes)
        : isSecretName(name.replace(/^.*:/, "")) || isNamedSecret(attributes);
      return isSecret ? `<${name}${attributes}>${REDACTED}</` : whole;
    },
  );
}
