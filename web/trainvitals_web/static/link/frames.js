/** Binary messages of the live socket: a 40-byte little-endian header, float32 values, perhaps a presence bitmap. */

const MAGIC = 0x31465654; // "TVF1"
const HEADER = 40;
const HAS_BITMAP = 1;

/**
 * The frame, as views into `bytes`: nothing is copied. Throws a RangeError where the bytes are no frame.
 * @param {ArrayBuffer} bytes
 * @returns {import("../../../types/contract").Frame}
 */
export function decodeFrame(bytes) {
  const head = new DataView(bytes);
  if (bytes.byteLength < HEADER || head.getUint32(0, true) !== MAGIC) {
    throw new RangeError(`expected a frame of at least ${HEADER} bytes, got ${bytes.byteLength} bytes`);
  }
  const n = head.getUint32(8, true);
  const bitmap = (head.getUint32(12, true) & HAS_BITMAP) !== 0;
  return {
    layout: head.getUint32(4, true),
    step: head.getFloat64(16, true),
    time: head.getFloat64(24, true),
    rank: head.getUint32(32, true),
    values: new Float32Array(bytes, HEADER, n),
    present: bitmap ? new Uint8Array(bytes, HEADER + 4 * n, Math.ceil(n / 8)) : null,
  };
}

/**
 * Whether column `i` of the frame holds a value; absent is not NaN.
 * @param {Uint8Array | null} present
 * @param {number} i
 */
export function isPresent(present, i) {
  return present === null || ((present[i >> 3] >> (i & 7)) & 1) === 1;
}
