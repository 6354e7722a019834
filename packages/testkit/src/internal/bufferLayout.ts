/**
 * Batches with the same rows in other buffers, and what buffers hold: transforms may rely on what `ChangeBatch` says of them and on nothing else.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as Arrow from "apache-arrow"

interface Numbers {
  readonly length: number
  readonly BYTES_PER_ELEMENT: number
  readonly buffer: ArrayBufferLike
  readonly byteOffset: number
  readonly byteLength: number
}

const bytesOf = ({ buffer, byteLength, byteOffset }: Numbers): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)

/** The same values as a view into a larger buffer, with something else before and behind them, and `more` elements that say nothing. */
const inside = <A extends Numbers>(values: A, more: number): A => {
  const size = values.BYTES_PER_ELEMENT
  const buffer = new ArrayBuffer((values.length + more + 16) * size)
  new Uint8Array(buffer).fill(0xa5)
  new Uint8Array(buffer).set(bytesOf(values), 8 * size)
  const View = values.constructor as new(buffer: ArrayBuffer, offset: number, length: number) => A // a typed array's constructor
  return new View(buffer, 8 * size, values.length + more)
}

const widened = (data: Arrow.Data): Arrow.Data => {
  const { length, nullCount } = data
  const offsets: Int32Array | undefined = data.valueOffsets
  const values = inside(data.values as Uint8Array, 7) // some typed array
  // Without NULLs there may be no bitmap, or an empty one.
  const common = { length, nullCount, nullBitmap: nullCount === 0 ? new Uint8Array(0) : inside(data.nullBitmap, 3) }
  // makeData's overloads are per Arrow type; the values keep the array type that they came in.
  return offsets === undefined
    ? Arrow.makeData({ type: data.type as Arrow.Bool, data: values, ...common })
    : Arrow.makeData({ type: data.type as Arrow.Utf8, data: values, valueOffsets: inside(offsets, 5), ...common })
}

/** The batch in buffers that are views into larger ones. */
export const roomy = ({ records, rows, table }: ChangeBatch.ChangeBatch): ChangeBatch.ChangeBatch => {
  const { schema } = records
  const children = schema.fields.map((_, index) => widened(ChangeBatch.child(records, index)))
  const data = Arrow.makeData({ type: new Arrow.Struct(schema.fields), length: rows, nullCount: 0, children })
  return ChangeBatch.make(table, new Arrow.RecordBatch(schema, data))
}

/** Copies of all bytes of a batch's buffers, to be compared with later ones. */
export const contents = ({ records }: ChangeBatch.ChangeBatch): ReadonlyArray<Uint8Array> =>
  records.data.children.flatMap(({ nullBitmap, valueOffsets, values }) =>
    [nullBitmap, valueOffsets, values].flatMap((buffer: Numbers | undefined) =>
      buffer === undefined ? [] : [bytesOf(buffer).slice()]
    )
  )
