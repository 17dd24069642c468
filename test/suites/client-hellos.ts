/** First messages of TLS clients, as bytes: recorded ones, and ones made to order. */

export interface HelloParts {
  readonly name?: string;
  readonly protocols?: readonly string[];
  /** Other extensions, in front of and behind those two. */
  readonly before?: readonly Uint8Array[];
  readonly after?: readonly Uint8Array[];
  readonly sessionId?: Uint8Array;
}

const number = (value: number, size: number): Buffer => {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
};

export const vector = (size: number, ...parts: readonly Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts);
  return Buffer.concat([number(content.length, size), content]);
};

export const extension = (type: number, ...content: readonly Uint8Array[]): Buffer =>
  Buffer.concat([number(type, 2), vector(2, ...content)]);

export const nameExtension = (...names: readonly string[]): Buffer =>
  extension(
    0,
    vector(2, ...names.map((name) => Buffer.concat([Buffer.of(0), vector(2, Buffer.from(name, "latin1"))]))),
  );

const protocolsExtension = (names: readonly string[]): Buffer =>
  extension(16, vector(2, ...names.map((name) => vector(1, Buffer.from(name, "latin1")))));

/** The handshake message, without records around it. */
export function helloMessage({ name, protocols, before = [], after = [], sessionId }: HelloParts): Buffer {
  const extensions = [
    ...before,
    ...(name === undefined ? [] : [nameExtension(name)]),
    ...(protocols === undefined ? [] : [protocolsExtension(protocols)]),
    ...after,
  ];
  const body = Buffer.concat([
    Buffer.of(3, 3),
    Buffer.alloc(32, 0x5a), // random
    vector(1, sessionId ?? Buffer.alloc(32, 0x17)),
    vector(2, Buffer.of(0x1a, 0x1a, 0x13, 0x01, 0x13, 0x02)), // GREASE in front (RFC 8701)
    vector(1, Buffer.of(0)),
    vector(2, ...extensions),
  ]);
  return Buffer.concat([Buffer.of(1), vector(3, body)]);
}

/** `message` in records of at most `size` bytes. */
export function inRecords(message: Uint8Array, size: number = 16_384): Buffer {
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    records.push(Buffer.concat([Buffer.of(22, 3, 1), vector(2, message.subarray(at, at + size))]));
  }
  return Buffer.concat(records);
}

export function makeHello(parts: HelloParts): Buffer {
  return inRecords(helloMessage(parts));
}

/** What a browser of 2026 sends: GREASE on both ends, a post-quantum key share, an encrypted inner hello (RFC 9849). */
export function browserHello(name: string): Buffer {
  return makeHello({
    name,
    protocols: ["h2", "http/1.1"],
    before: [extension(0xfafa)],
    after: [
      extension(51, vector(2, Buffer.of(0x11, 0xec), vector(2, Buffer.alloc(1216, 0x33)))), // X25519MLKEM768
      extension(0xfe0d, Buffer.of(0, 0, 1, 0, 1, 7), vector(2, Buffer.alloc(32)), vector(2, Buffer.alloc(239, 0x0e))),
      extension(0x2a2a, Buffer.of(0)),
    ],
  });
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

/** Sent by these programs for `https://box.tail.test`. */
export const RECORDED: Readonly<Record<string, Buffer>> = {
  "openssl 3.0, TLS 1.3": hex(`
    160301014c0100014803036283eb45553a63386877aa6696e6766cd5cabe50384a47cee9609bc305df15d120ebb3ed8f1201e44314cd5d9f
    ac5a554d5ff15fa1232eaee5af19ed19c4890ae5003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c027
    0067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000c100000012001000000d626f782e7461696c2e74657374000b
    000403000102000a00160014001d0017001e0019001801000101010201030104002300000010000e000c02683208687474702f312e310016
    000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b0009
    080304030303020301002d00020101003300260024001d00204169d49a1bb1d678bab93e38aa2e1e953c58a104d9650edd51c9c3d0c7a9b7
    1e
  `),
  "openssl 3.0, TLS 1.2": hex(`
    16030100cd010000c90303455c7605f82fae199f22f3ce0f3cb004d46380c472a7f82e32ecfaf983ccf566000038c02cc030009fcca9cca8
    ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff01000068000000120010
    00000d626f782e7461696c2e74657374000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a
    0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602
  `),
  "curl 7.88": hex(`
    1603010200010001fc0303945d9fe5ec10a90d5f5fea44e7189554347fbb2fc337150f07cd7bab94154311208554586107643752a2335819
    2ddb39d5223270493f0baf7f113dc83a029ba2e7003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c027
    0067c00ac0140039c009c0130033009d009c003d003c0035002f00ff0100017500000012001000000d626f782e7461696c2e74657374000b
    000403000102000a00160014001d0017001e00190018010001010102010301040010000e000c02683208687474702f312e31001600000017
    000000310000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b0009
    080304030303020301002d00020101003300260024001d002016e7ddd77da7348feacde703ddaf5ec7817d48277d9e020c91a7fd04b12ae2
    33001500b0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    00000000000000000000000000
  `),
  "node 26": hex(`
    160301017d0100017903034a01cb408ed106d11d987233daefe4f4192ed14a4a1e1abea66ef9cd1c8b4bbf206218bbc1dda07e7613d69236
    fa901bd93f8589f0db0bfdf48d41848f6377ea780076130213031301c02fc02bc030c02c009ec0270067c028006b00a3009fcca9cca8ccaa
    c0afc0adc0a3c09fc05dc061c057c05300a2c0aec0acc0a2c09ec05cc060c056c052c024006ac0230040c00ac01400390038c009c0130033
    0032009dc0a1c09dc051009cc0a0c09cc050003d003c0035002f00ff010000ba00000012001000000d626f782e7461696c2e74657374000b
    000403000102000a00160014001d0017001e0019001801000101010201030104002300000010000b000908687474702f312e310016000000
    170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b0005040304
    0303002d00020101003300260024001d0020dbf882102e6025815228794a5212441fc1e846505946365c5c5c9a380a849d28
  `),
};
