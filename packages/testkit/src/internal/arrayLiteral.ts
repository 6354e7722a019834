/**
 * PostgreSQL's text form of arrays: `{1,NULL,"a,\"b"}`, nested in braces.
 */

type Nested = ReadonlyArray<string | null | Nested>

/** Elements of an array literal, or `undefined` when it begins with its own lower bounds (`[0:1]={…}`). */
export const parseArray = (literal: string): Nested | undefined => {
  if (!literal.startsWith("{")) return undefined
  let at = 1
  const list = (): Nested => {
    const items: Array<string | null | Nested> = []
    while (at < literal.length) {
      const character = literal.charAt(at)
      if (character === "}") {
        at++
        return items
      }
      if (character === ",") at++
      else if (character === "{") {
        at++
        items.push(list())
      } else items.push(item())
    }
    throw new Error("an array literal ends too early")
  }
  const item = (): string | null => {
    let text = ""
    if (literal.charAt(at) === "\"") {
      for (at++; literal.charAt(at) !== "\""; at++) {
        if (literal.charAt(at) === "\\") at++
        if (at >= literal.length) throw new Error("an array literal ends within quotes")
        text += literal.charAt(at)
      }
      at++
      return text
    }
    for (; at < literal.length && literal.charAt(at) !== "," && literal.charAt(at) !== "}"; at++) {
      if (literal.charAt(at) === "\\") at++
      text += literal.charAt(at)
    }
    return text.toUpperCase() === "NULL" ? null : text
  }
  return list()
}
