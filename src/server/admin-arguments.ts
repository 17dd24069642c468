import { Fault } from "../base/fault.ts";
import type { NewUser } from "../coordination/administration.ts";
import type { DnsChange } from "../coordination/dns-settings.ts";

/** Arguments of a command as they come over the socket. */
export type AdminArguments = Readonly<Record<string, unknown>>;

function refused(name: string, found: unknown, wanted: string): Fault {
  const text = (JSON.stringify(found) ?? "nothing").slice(0, 100);
  return new Fault("ADMIN_ARGUMENT", `Cannot do this without "${name}": found ${text}, wanted ${wanted}`);
}

export function word(args: AdminArguments, name: string): string {
  const value = args[name];
  if (typeof value === "string" && value !== "") return value;
  throw refused(name, value, "text");
}

export function number(args: AdminArguments, name: string): number {
  const value = Number(args[name]);
  if (Number.isSafeInteger(value)) return value;
  throw refused(name, args[name], "a whole number");
}

export function truth(args: AdminArguments, name: string): boolean {
  const value = args[name];
  if (typeof value === "boolean") return value;
  throw refused(name, value, "true or false");
}

/** A node by id, name or address. */
export function which(args: AdminArguments): number | string {
  const value = args["node"] ?? args["id"];
  return typeof value === "number" ? value : word({ node: value }, "node");
}

export function words(args: AdminArguments, name: string): readonly string[] {
  return Array.isArray(args[name]) ? args[name].map(String) : [];
}

export function pairs(args: AdminArguments, name: string): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(args[name] ?? {}).map(([key, value]) => [key, String(value)]));
}

/** Of a user, all but the login. */
export function profile(args: AdminArguments): Omit<NewUser, "login"> {
  const given = ["displayName", "profilePicture", "role"].filter((name) => args[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, word(args, name)]));
}

export function dnsChange(args: AdminArguments): DnsChange {
  const { split, addRecords, removeRecords } = args;
  const has = (name: string): boolean => args[name] !== undefined;
  return {
    ...(has("magicDns") ? { magicDns: truth(args, "magicDns") } : {}),
    ...(has("nameservers") ? { nameservers: words(args, "nameservers") } : {}),
    ...(has("override") ? { override: truth(args, "override") } : {}),
    ...(has("search") ? { search: words(args, "search") } : {}),
    ...(has("split")
      ? { split: Object.fromEntries(entries(split).map(([k, v]) => [k, v === null ? v : words({ v }, "v")])) }
      : {}),
    ...(has("addRecords")
      ? { addRecords: list(addRecords).map((item) => ({ name: word(item, "name"), value: word(item, "value") })) }
      : {}),
    ...(has("removeRecords")
      ? {
          removeRecords: list(removeRecords).map((item) => ({
            name: word(item, "name"),
            ...(item["value"] === undefined ? {} : { value: word(item, "value") }),
          })),
        }
      : {}),
  };
}

const entries = (value: unknown): readonly (readonly [string, unknown])[] =>
  typeof value === "object" && value !== null ? Object.entries(value) : [];

const list = (value: unknown): readonly AdminArguments[] =>
  Array.isArray(value) ? value.map((item) => Object.fromEntries(entries(item))) : [];
