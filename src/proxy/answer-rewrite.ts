import type { Backend } from "./backend.ts";

type Rewrite = (name: string, value: string) => string;

/** Answers that name the backend's own address name ours instead, `served`; absent: they stay as they are. */
export function answerRewrite({ origin, host }: Backend, served: string | undefined): Rewrite {
  if (origin === undefined || served === undefined) return (_, value) => value;
  const domain = host.replace(/[.]/g, "\\.");
  return (name, value) => {
    if (name === "location" || name === "content-location") {
      const rest = value.startsWith(origin) ? value.slice(origin.length) : undefined;
      return rest !== undefined && (rest === "" || /^[/?#]/.test(rest)) ? served + rest : value;
    }
    if (name === "set-cookie") return value.replace(new RegExp(`;\\s*domain=\\.?${domain}(?=\\s*(?:;|$))`, "gi"), "");
    return value;
  };
}
