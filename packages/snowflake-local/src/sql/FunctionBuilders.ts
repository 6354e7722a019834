/**
 * How entries of the function tables are written.
 */

/** Arguments are DuckDB SQL. */
export type Build = (args: ReadonlyArray<string>) => string

export interface Function {
  readonly min: number
  readonly max: number
  readonly build: Build
}

export type FunctionTable = Readonly<Record<string, Function>>

/** A call of the DuckDB function of this name. */
export const named = (name: string): Build => (args) => `${name}(${args.join(", ")})`

/** A function that takes so many arguments. */
export const fn = (min: number, max: number, build: string | Build): Function => ({
  min,
  max,
  build: typeof build === "string" ? named(build) : build
})

/** No limit to the number of arguments. */
export const many = Number.POSITIVE_INFINITY

/** An argument, or what it is when it is left out. */
export const arg = (args: ReadonlyArray<string>, index: number, otherwise = "NULL"): string => args[index] ?? otherwise
