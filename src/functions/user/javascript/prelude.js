// What every script finds, and what the engine calls. Evaluates to the functions for the engine.
(() => {
  const { parse, stringify } = JSON;
  const { from, isArray } = Array;
  const { asIntN } = BigInt;
  const { fromCharCode } = String;
  const { isFinite } = Number;
  const { getPrototypeOf, prototype } = Object;
  delete globalThis.Atomics;
  delete globalThis.SharedArrayBuffer;
  const plain = (v) => {
    if (typeof v === "bigint") return { $bigint: `${v}` };
    if (typeof v === "number" && !isFinite(v)) return { $number: `${v}` };
    if (typeof v === "function" || typeof v === "symbol") throw new TypeError(`a state cannot hold a ${typeof v}`);
    if (typeof v === "object" && v !== null && !isArray(v)) {
      const p = getPrototypeOf(v);
      if (p !== null && p !== prototype) {
        throw new TypeError(`a state is made of plain objects, arrays, numbers, BigInts, strings, booleans and null, not of ${v.constructor?.name}`);
      }
    }
    return v;
  };
  const revive = (k, v) => {
    if (v !== null && typeof v === "object") {
      if (v.$bigint !== undefined) return BigInt(v.$bigint);
      if (v.$number !== undefined) return Number(v.$number);
    }
    return v;
  };
  return {
    rows: (r) => {
      if (r === null || r === undefined) return [];
      if (typeof r !== "object" || typeof r[Symbol.iterator] !== "function") {
        throw new TypeError("a table function yields its rows, or returns an array of them");
      }
      return from(r);
    },
    fits: (v) => asIntN(64, v) === v,
    latin: (v) => {
      let s = "";
      for (let i = 0; i < v.length; i += 4096) s += fromCharCode(...v.subarray(i, i + 4096));
      return s;
    },
    // The value itself, not what its toJSON makes of it.
    dump: (v) => stringify(v === undefined ? null : v, function (k) { return plain(this[k]); }),
    parse: (text) => parse(text, revive),
    entries: (m) => (m instanceof Map ? from(m.entries()) : Object.entries(m)),
  };
})()
