import { describe, expect, test } from "vitest";
import { readDataTile, readLeaf } from "./log-entry.ts";
import { seenCertificate } from "./seen-certificate.ts";

/** An entry of a test log, as google/certificate-transparency-go's tests have it (client/logclient_test.go). */
const PRECERTIFICATE = Buffer.from(
  [
    "AAAAAAFLSYHwyAABN2DieQ8zpJj5tsFJ/s/KOZOVS1NvvzatRdCoQVt5M30ABHowggR2oAMCAQICEAUyKYw5aj4l/KoZd+gntfMwDQYJKoZIhv",
    "cNAQELBQAwbTELMAkGA1UEBhMCVVMxFjAUBgNVBAoTDUdlb1RydXN0IEluYy4xHzAdBgNVBAsTFkZPUiBURVNUIFBVUlBPU0VTIE9OTFkxJTAj",
    "BgNVBAMTHEdlb1RydXN0IEVWIFNTTCBURVNUIENBIC0gRzQwHhcNMTUwMjAyMDAwMDAwWhcNMTYwMjI3MjM1OTU5WjCBwzETMBEGCysGAQQBgj",
    "c8AgEDEwJHQjEbMBkGCysGAQQBgjc8AgECFApDYWxpZm9ybmlhMR4wHAYLKwYBBAGCNzwCAQEMDU1vdW50YWluIFZpZXcxCzAJBgNVBAYTAkdC",
    "MRMwEQYDVQQIDApDYWxpZm9ybmlhMRYwFAYDVQQHDA1Nb3VudGFpbiBWaWV3MR0wGwYDVQQKDBRTeW1hbnRlYyBDb3Jwb3JhdGlvbjEWMBQGA1",
    "UEAwwNc2RmZWRzZi50cnVzdDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBALGdl97zn/gpxl6gmaMlcpizP/Z1RR/cVkGiIjR67kpW",
    "IB9MGkBvLxmBXYbewaYRdo59VWyOM6fxtMeNsZzOrlQOl64fBmCy7k+M/yBFuEqdoig0l0RAbs6u0LCNRv2rNUOz2G6nCGJ6YaUpt5Onatxrd2",
    "vI1bPU/iHixKqSz9M7RedBIGjgaDor7/rR3y/DILjdvwL/tgPSz3R5gnf9lla1rNRWWbDl12HgLc+VxTCVVVqTGtW/qbSWfARdXxLeLWtTfNk6",
    "8q2LReVUC9QyeYdtE+N2+2SXeOEN+lYWW5Ab036d7k5GAntMBzLKftZEkYYquvaiSkqu2PSaCSLKT7UCAwEAAaOCAdEwggHNMEcGA1UdEQRAMD",
    "6CDWtqYXNkaGYudHJ1c3SCC3NzZGZzLnRydXN0gg1zZGZlZHNmLnRydXN0ghF3d3cuc2RmZWRzZi50cnVzdDAJBgNVHRMEAjAAMA4GA1UdDwEB",
    "/wQEAwIFoDArBgNVHR8EJDAiMCCgHqAchhpodHRwOi8vZ20uc3ltY2IuY29tL2dtLmNybDCBoAYDVR0gBIGYMIGVMIGSBgkrBgEEAfAiAQYwgY",
    "QwPwYIKwYBBQUHAgEWM2h0dHBzOi8vd3d3Lmdlb3RydXN0LmNvbS9yZXNvdXJjZXMvcmVwb3NpdG9yeS9sZWdhbDBBBggrBgEFBQcCAjA1DDNo",
    "dHRwczovL3d3dy5nZW90cnVzdC5jb20vcmVzb3VyY2VzL3JlcG9zaXRvcnkvbGVnYWwwHQYDVR0lBBYwFAYIKwYBBQUHAwEGCCsGAQUFBwMCMB",
    "8GA1UdIwQYMBaAFLFplGGr5ssMTOdZr1pJixgzweFHMFcGCCsGAQUFBwEBBEswSTAfBggrBgEFBQcwAYYTaHR0cDovL2dtLnN5bWNkLmNvbTAm",
    "BggrBgEFBQcwAoYaaHR0cDovL2dtLnN5bWNiLmNvbS9nbS5jcnQAAA==",
  ].join(""),
  "base64",
);

describe("FN-12 an entry", () => {
  test("a published precertificate is read with its names and its key, though it has no signature", () => {
    const { bytes, entry } = readLeaf(PRECERTIFICATE);
    expect(bytes).toEqual(PRECERTIFICATE);
    expect([entry.isPrecertificate, new Date(entry.timestamp).getUTCFullYear()]).toEqual([true, 2015]);
    expect(seenCertificate(entry)).toEqual({
      names: ["kjasdhf.trust", "ssdfs.trust", "sdfedsf.trust", "www.sdfedsf.trust"],
      issuer: "C=US, O=GeoTrust Inc., OU=FOR TEST PURPOSES ONLY, CN=GeoTrust EV SSL TEST CA - G4",
      serial: "0532298C396A3E25FCAA1977E827B5F3",
      key: expect.stringMatching(/^[0-9a-f]{64}$/),
      notAfter: Date.UTC(2016, 1, 27, 23, 59, 59),
    });
  });

  test("a data tile repeats it beside what was handed in", () => {
    const timestamped = PRECERTIFICATE.subarray(2);
    const leaf = Buffer.concat([timestamped, Buffer.from("000003aabbcc0020", "hex"), Buffer.alloc(32)]);
    const leaves = readDataTile(Buffer.concat([leaf, leaf]));
    expect(leaves.map(({ bytes }) => Buffer.from(bytes).equals(PRECERTIFICATE))).toEqual([true, true]);
    expect(leaves[1]!.entry).toEqual(readLeaf(PRECERTIFICATE).entry);
    expect(() => readDataTile(leaf.subarray(0, -1))).toThrow("less than it says");
  });

  test("cut at every byte, or of another kind, it is refused", () => {
    for (let length = 0; length < PRECERTIFICATE.length; length++) {
      expect(() => readLeaf(PRECERTIFICATE.subarray(0, length)), String(length)).toThrow(
        "Cannot read the transparency log",
      );
    }
    for (const [at, value] of [
      [0, 1],
      [1, 1],
      [10, 1],
      [11, 2],
      [2, 0xff],
    ] as const) {
      const other = Buffer.from(PRECERTIFICATE);
      other[at] = value;
      expect(() => readLeaf(other), String(at)).toThrow("Cannot read the transparency log");
    }
    expect(() => readLeaf(Buffer.concat([PRECERTIFICATE, Buffer.of(0)]))).toThrow("bytes behind a leaf");
  });

  test("what is logged as a certificate and is none is nobody's", () => {
    const entry = { timestamp: 0, isPrecertificate: false, certificate: Buffer.from("web.example.org") };
    expect(seenCertificate(entry)).toBeUndefined();
  });
});
