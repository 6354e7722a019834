/**
 * What a stream's terminal can show.
 */

/** Whether colours are welcome; https://no-color.org is honoured. */
export const wantsColor = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY === true && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb"

/** Whether the locale's encoding has characters beyond ASCII. */
export const showsUnicode = (): boolean =>
  process.platform === "win32" ||
  /utf-?8/i.test(process.env["LC_ALL"] || process.env["LC_CTYPE"] || process.env["LANG"] || "")
