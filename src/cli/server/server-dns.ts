import type { DnsChange, DnsSettings } from "../../coordination/dns-settings.ts";
import type { CliIo } from "../io.ts";
import { table } from "../table.ts";
import { terminalLines } from "../terminal-text.ts";
import { isOn } from "./server-admin.ts";
import type { ServerClient } from "./server-client.ts";
import type { ServerValues } from "./server-flags.ts";

/** `sallyport server dns …`; undefined: there is no such command. Every one ends by showing what is in force now. */
export async function dns(
  values: ServerValues,
  words: readonly string[],
  client: Pick<ServerClient, "ask">,
  io: CliIo,
): Promise<number | undefined> {
  const isShow = words.length === 0 || (words.length === 1 && words[0] === "show");
  const change = isShow ? undefined : changeOf(words);
  if (!isShow && change === undefined) return undefined;
  const settings =
    change === undefined
      ? await client.ask<DnsSettings>("dns.get")
      : await client.ask<DnsSettings>("dns.set", { ...change });
  const isTable = io.isTerminal && values.json !== true;
  io.stdout(isTable ? settingsTable(settings) : `${terminalLines(JSON.stringify(settings, undefined, 2))}\n`);
  return 0;
}

function changeOf([area, ...rest]: readonly string[]): DnsChange | undefined {
  const [first, second, third] = rest;
  switch (area) {
    case "nameservers":
      return rest.length === 1 ? { nameservers: list(first!) } : undefined;
    case "search":
      return rest.length === 1 ? { search: list(first!) } : undefined;
    case "override":
    case "magic":
      return rest.length === 1 ? { [area === "magic" ? "magicDns" : area]: isOn(first!) } : undefined;
    case "split":
      return rest.length === 2 ? { split: { [first!]: second === "off" ? null : list(second!) } } : undefined;
    case "record":
      if (second === undefined || rest.length > 3) return undefined;
      if (first === "add" && third !== undefined) return { addRecords: [{ name: second, value: third }] };
      if (first !== "remove") return undefined;
      return { removeRecords: [{ name: second, ...(third === undefined ? {} : { value: third }) }] };
    default:
      return undefined;
  }
}

const list = (text: string): readonly string[] =>
  text === "none" ? [] : text.split(",").filter((word) => word !== "");

function settingsTable({ magicDns, nameservers, override, split, search, records }: DnsSettings): string {
  const all = (texts: readonly string[]): string => texts.join(" ") || "-";
  return table(
    ["WHAT", "VALUE"],
    [
      ["MagicDNS", magicDns ? "on" : "off"],
      [
        "name servers",
        `${all(nameservers)}${nameservers.length === 0 ? "" : override ? " (override)" : " (fallback)"}`,
      ],
      ["search domains", all(search)],
      ...Object.entries(split).map(([domain, resolvers]) => [`split ${domain}`, all(resolvers)]),
      ...records.map(({ name, type, value }) => [`record ${name}`, `${type} ${value}`]),
    ],
  );
}
