/** Says in words what is wrong with the type of a row that a transform's function gives. */
import type { Mistake } from "../Mistake.ts"

type NameOf<A> = [A] extends [never] ? "nothing"
  : A extends string ? "string"
  : A extends bigint ? "bigint"
  : A extends number ? "number"
  : A extends boolean ? "boolean"
  : A extends Uint8Array ? "Uint8Array"
  : A extends symbol ? "Column.notSent"
  : A extends null ? "null"
  : A extends undefined ? "undefined"
  : "something else"

/** Of each member of the union `M`, the names that it lacks. */
type Missing<M, Wanted> = M extends unknown ? {
    readonly [Name in keyof Wanted & string]: Name extends keyof M ? undefined extends M[Name] ? Name : never : Name
  }[keyof Wanted & string]
  : never

type Unknown<M, Wanted> = M extends unknown ? Exclude<keyof M, keyof Wanted> & string : never

type Misfit<M, Wanted> = M extends unknown ? {
    readonly [Name in keyof Wanted & keyof M & string]: M[Name] extends Wanted[Name] ? never : Name
  }[keyof Wanted & keyof M & string]
  : never

/** What is given and isn't wanted of a column. */
type Given<M, Wanted, Name> = M extends unknown
  ? Name extends keyof M & keyof Wanted ? NameOf<Exclude<M[Name], Wanted[Name]>> : never
  : never

type Problem<What extends string, M, Wanted> = undefined extends M
  ? `${What} gives undefined for some rows: rows are left out by RowTransform.filter`
  : [M] extends [object]
    ? [Missing<M, Wanted>] extends [never]
      ? [Unknown<M, Wanted>] extends [never] ? [Misfit<M, Wanted>] extends [never] ? never : {
          [Name in Misfit<M, Wanted>]: "null" extends Given<M, Wanted, Name>
            ? `${What} gives null for the column ${Name}, which writes doesn't declare as nullable`
            : Name extends keyof Wanted
              ? `${What} gives ${Given<M, Wanted, Name>} for the column ${Name}, which writes declares as ${NameOf<
                Wanted[Name]
              >}`
            : never
        }[Misfit<M, Wanted>]
      : `${What} gives the column ${Unknown<M, Wanted>}, which writes doesn't declare`
    : `${What} leaves out the column ${Missing<M, Wanted>}, which writes declares`
  : `${What} must give an object with the columns that writes declares`

/** `M` when it is a row of what is wanted; otherwise a type whose name says why it isn't. */
export type Checked<What extends string, M, Wanted> = [Problem<What, M, Wanted>] extends [never] ? M
  : Mistake<Problem<What, M, Wanted>>
