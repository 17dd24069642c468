/** One measured number beside a peer's of the same run. */
export interface Figure {
  readonly name: string;
  /** `undefined`: it could not be measured here, and `note` says why. */
  readonly value: number | undefined;
  readonly unit: string;
  /** Who it is compared with; empty where nobody has such a thing. */
  readonly peer?: string;
  /** `undefined`: the peer is missing here. */
  readonly peerValue?: number | undefined;
  readonly note?: string;
}

/** `run` gives each figure as soon as it is known. */
export interface Group {
  readonly name: string;
  run(): AsyncIterable<Figure>;
}

export function ratioOf({ value, peerValue }: Figure): number | undefined {
  return value === undefined || peerValue === undefined || peerValue === 0 ? undefined : value / peerValue;
}

/** A JSON object on one line; what is missing is null. */
export function toJsonLine(figure: Figure): string {
  const { name, value, unit, peer, peerValue, note } = figure;
  const ratio = ratioOf(figure);
  return JSON.stringify({
    name,
    value: value === undefined ? null : round(value),
    unit,
    peer: peer ?? null,
    peerValue: peerValue === undefined ? null : round(peerValue),
    ratio: ratio === undefined ? null : Number(ratio.toFixed(3)),
    ...(note === undefined ? {} : { note }),
  });
}

const WIDTHS = [46, 12, 10, 28, 12, 8] as const;

export function toRow(figure: Figure): string {
  const { name, value, unit, peer = "", peerValue, note } = figure;
  const ratio = ratioOf(figure);
  const cells = [
    name,
    value === undefined ? "–" : String(round(value)),
    unit,
    peer,
    peerValue === undefined ? (peer === "" ? "" : "missing") : String(round(peerValue)),
    ratio === undefined ? "" : `${ratio.toFixed(2)}×`,
  ];
  return `${row(cells)}${note === undefined ? "" : `  ${note}`}`.trimEnd();
}

export const header: string = row(["figure", "ours", "unit", "peer", "peer's", "ratio"]);

function row(cells: readonly string[]): string {
  return cells
    .map((cell, i) => ([1, 4, 5].includes(i) ? cell.padStart(WIDTHS[i]!) : cell.padEnd(WIDTHS[i]!)))
    .join(" ");
}

/** Three digits that mean something. */
function round(value: number): number {
  return Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(3));
}
