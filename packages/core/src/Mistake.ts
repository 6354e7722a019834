/**
 * What a type parameter becomes when what was given for it is wrong: a type whose name says in words what is.
 *
 * The compiler then tells of `Mistake<"map leaves out the column total, which writes declares">`, instead of a chain of types that don't fit
 * each other. Nothing is ever a `Mistake` at run time.
 */

declare const mistake: unique symbol

/** No value is of this type. `Message` is what the compiler shows. */
export interface Mistake<out Message extends string> {
  readonly [mistake]: Message
}
