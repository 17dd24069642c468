/**
 * Node's own WebSocket client, over the kernel's TCP: node websocket-client.ts <url> <messages> <bytes>
 * Sends messages that the server sends back, all at once, and writes how many came back whole and in order.
 */
const [url, count, size] = [process.argv[2]!, Number(process.argv[3]), Number(process.argv[4])];
const socket = new WebSocket(url);
socket.binaryType = "arraybuffer";
let whole = 0;
let got = 0;
const message = (i: number): Uint8Array<ArrayBuffer> => new Uint8Array(size).fill(i);
socket.addEventListener("open", () => {
  for (let i = 0; i < count; i++) socket.send(message(i));
});
socket.addEventListener("message", ({ data }) => {
  if (data instanceof ArrayBuffer && Buffer.from(data).equals(message(got))) whole++;
  if (++got === count) socket.close(1000);
});
socket.addEventListener("close", ({ code }) => console.log(JSON.stringify({ whole, code })));
socket.addEventListener("error", () => process.exit(1));
