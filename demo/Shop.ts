/**
 * The shop that the demo mirrors: seven tables that between them have what makes mirroring hard.
 *
 * `create` makes the schema, `fill` the rows, in SQL and in one go. Keys derive from small numbers, so the workload can name any
 * row without asking first.
 *
 * | table | share of rows | what is special |
 * | --- | --- | --- |
 * | customers | 10 % | uuid key, enum, text[], jsonb, timestamptz, bytea, unbounded numeric, NULLs |
 * | products | 1 % | text and jsonb of more than 8 kB stored out of line (TOAST), NaN and infinite floats |
 * | orders | 20 % | partitioned by date, composite key, interval, domain |
 * | order_items | 45 % | composite key, numeric of scale 4 |
 * | inventory | 2 % | keys that change |
 * | sessions | 2 % | gets truncated |
 * | events | 20 % | no key, REPLICA IDENTITY FULL, equal rows |
 */
import type { EmbeddedPostgres, EmbeddedPostgresError } from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"

export const tables = ["customers", "events", "inventory", "order_items", "orders", "products", "sessions"] as const

/** How many rows each table starts with. */
export interface Size {
  readonly customers: number
  readonly products: number
  readonly orders: number
  readonly itemsPerOrder: number
  readonly inventory: number
  readonly sessions: number
  readonly events: number
}

export const sizeOf = (rows: number): Size => {
  const share = (percent: number): number => Math.max(50, Math.round(rows * percent / 100))
  return {
    customers: share(10),
    products: share(1),
    orders: share(18),
    itemsPerOrder: 2.5,
    inventory: share(2),
    sessions: share(2),
    events: share(22)
  }
}

/** SQL for the day of an order, from its number: 700 days over the partitions. */
export const orderedOn = (id: string): string => `(date '2024-01-01' + (${id} % 700)::int)`

/** SQL for a customer's key, from a number. */
export const customerId = (number: string): string => `md5('customer ' || ${number})::uuid`

const schema = `
CREATE TYPE tier AS ENUM ('basic', 'plus', 'gold');
CREATE TYPE order_status AS ENUM ('placed', 'paid', 'shipped', 'cancelled');
CREATE DOMAIN money_amount AS numeric(12, 2) CHECK (VALUE >= 0);

CREATE TABLE customers (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  email varchar(120),
  tier tier NOT NULL,
  tags text[] NOT NULL,
  preferences jsonb,
  active boolean,
  birthday date,
  credit numeric,
  score real,
  avatar bytea,
  created_at timestamptz NOT NULL
);

CREATE TABLE products (
  id bigint PRIMARY KEY,
  sku text NOT NULL,
  price numeric(10, 2) NOT NULL,
  weight real,
  rating double precision,
  dimensions integer[],
  stock integer NOT NULL,
  description text,
  specification jsonb,
  updated_at timestamp NOT NULL
);
-- Out of line and uncompressed: an update that doesn't touch it doesn't send it.
ALTER TABLE products ALTER COLUMN description SET STORAGE EXTERNAL;

CREATE TABLE orders (
  ordered_on date NOT NULL,
  id bigint NOT NULL,
  customer_id uuid NOT NULL,
  status order_status NOT NULL,
  total money_amount NOT NULL,
  currency char(3) NOT NULL,
  placed_at timestamptz NOT NULL,
  delivery interval,
  discounts numeric(5, 2)[],
  note text,
  PRIMARY KEY (ordered_on, id)
) PARTITION BY RANGE (ordered_on);
CREATE TABLE orders_2024_h1 PARTITION OF orders FOR VALUES FROM ('2024-01-01') TO ('2024-07-01');
CREATE TABLE orders_2024_h2 PARTITION OF orders FOR VALUES FROM ('2024-07-01') TO ('2025-01-01');
CREATE TABLE orders_2025_h1 PARTITION OF orders FOR VALUES FROM ('2025-01-01') TO ('2025-07-01');
CREATE TABLE orders_later PARTITION OF orders DEFAULT;

CREATE TABLE order_items (
  order_id bigint NOT NULL,
  line smallint NOT NULL,
  product_id bigint NOT NULL,
  quantity integer NOT NULL,
  unit_price numeric(14, 4) NOT NULL,
  tax double precision,
  gift boolean NOT NULL DEFAULT false,
  PRIMARY KEY (order_id, line)
);

CREATE TABLE inventory (
  warehouse text NOT NULL,
  sku text NOT NULL,
  quantity integer NOT NULL,
  bin varchar(12),
  counted_on date,
  counted_at time,
  PRIMARY KEY (warehouse, sku)
);

CREATE TABLE sessions (
  token uuid PRIMARY KEY,
  customer_id uuid,
  started_at timestamptz NOT NULL,
  length interval,
  agent text,
  cart jsonb
);

CREATE TABLE events (
  happened_at timestamptz NOT NULL,
  kind text NOT NULL,
  customer_id uuid,
  amount numeric(20, 6),
  detail jsonb,
  source inet
);
ALTER TABLE events REPLICA IDENTITY FULL;

-- Text that doesn't compress: 32 characters a piece.
CREATE FUNCTION noise(pieces bigint) RETURNS text LANGUAGE sql VOLATILE AS
  $$ SELECT string_agg(md5(random()::text), '') FROM generate_series(1, pieces) $$;
`

const rowsOf = (size: Size): ReadonlyArray<string> => [
  `INSERT INTO customers
   SELECT ${
    customerId("i")
  }, 'Customer ' || i || CASE i % 4 WHEN 0 THEN ' Ünal 🌊' WHEN 1 THEN ' "O''Neil"' ELSE '' END,
     CASE WHEN i % 7 <> 0 THEN 'customer' || i || '@example.org' END, (enum_range(NULL::tier))[1 + i % 3],
     CASE i % 5 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['new', NULL, 'NULL'] ELSE ARRAY['a,b', 'q"' || i, 'ü'] END,
     CASE i % 6 WHEN 0 THEN NULL WHEN 1 THEN 'null'::jsonb
       ELSE jsonb_build_object('theme', 'dark', 'limit', i * 1.25, 'nested', jsonb_build_array(i, NULL, true, 'x\\y')) END,
     CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, date '1940-01-01' + i % 25000,
     CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN 123456789012345678901234567890.123456789 * i ELSE (i * 7) % 1000 - 0.50 END,
     (i % 1000) / 7.0, CASE WHEN i % 8 = 0 THEN decode(md5(i::text), 'hex') END,
     timestamptz '1999-12-31 23:59:59.999999+00' + i * interval '1 hour 1 second 7 microseconds'
   FROM generate_series(1, ${size.customers}) i`,
  `INSERT INTO products
   SELECT i, 'SKU-' || i, (i * 37 % 100000) / 100.0, CASE WHEN i % 10 <> 0 THEN i / 3.0 END,
     CASE i % 50 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' WHEN 3 THEN 1e-300 ELSE i / 11.0 END,
     ARRAY[i % 50, i % 60, NULL], i % 500, CASE WHEN i % 2 = 0 THEN noise(260 + i % 90) ELSE 'short ' || i END,
     jsonb_build_object('id', i, 'text', CASE WHEN i % 3 = 0 THEN noise(270) ELSE 'plain' END),
     timestamp '2024-01-01' + i * interval '1.000001 second'
   FROM generate_series(1, ${size.products}) i`,
  `INSERT INTO orders
   SELECT ${orderedOn("i")}, i, ${
    customerId(`(1 + i % ${size.customers})`)
  }, (enum_range(NULL::order_status))[1 + i % 4],
     (i % 50000) / 100.0, 'EUR', timestamptz '2024-01-01 08:00+00' + i * interval '13 minutes 1 microsecond',
     CASE WHEN i % 3 <> 0 THEN make_interval(days => (i % 9)::int, hours => (i % 24)::int, mins => 5) END,
     CASE WHEN i % 5 = 0 THEN ARRAY[1.50, NULL, i % 100] END, CASE WHEN i % 9 = 0 THEN 'leave at the door ' || i END
   FROM generate_series(1::bigint, ${size.orders}) i`,
  `INSERT INTO order_items
   SELECT i, line, 1 + (i * line) % ${size.products}, 1 + i % 5, (i * line % 100000) / 16.0, i / 7.0, i % 11 = 0
   FROM generate_series(1::bigint, ${size.orders}) i, generate_series(1, 2 + (i % 2)::int) line`,
  `INSERT INTO inventory
   SELECT 'W' || i % 3, 'SKU-' || i, i % 1000, CASE WHEN i % 4 <> 0 THEN 'bin ' || i % 90 END, date '2024-06-01' + i % 100,
     time '00:00:00.000001' + i * interval '1 second'
   FROM generate_series(1, ${size.inventory}) i`,
  `INSERT INTO sessions
   SELECT md5('session ' || i)::uuid, ${customerId("i")}, timestamptz '2025-01-01+00' + i * interval '1 second',
     i * interval '1 second', 'agent/' || i % 10, jsonb_build_object('items', i % 5)
   FROM generate_series(1, ${size.sessions}) i`,
  `INSERT INTO events
   SELECT timestamptz '2025-01-01+00' + (i / 2) * interval '1 second', (ARRAY['view', 'click', 'buy'])[1 + (i / 2) % 3],
     CASE WHEN (i / 2) % 4 <> 0 THEN ${customerId(`(1 + (i / 2) % ${size.customers})`)} END, (i / 2) / 128.0,
     CASE WHEN (i / 2) % 3 = 0 THEN jsonb_build_object('n', i / 2, 'a', jsonb_build_array(1.5, NULL)) END,
     ('10.0.' || (i / 2) % 256 || '.' || (i / 2) % 100)::inet
   FROM generate_series(1, ${size.events}) i`
]

/** Makes the schema and fills it. */
export const create = (
  postgres: EmbeddedPostgres,
  size: Size
): Effect.Effect<void, EmbeddedPostgresError> =>
  Effect.gen(function*() {
    yield* postgres.query(schema)
    for (const statement of rowsOf(size)) yield* postgres.query(statement)
    yield* postgres.query("ANALYZE")
  })

/** Rows of all tables. */
export const countRows = (postgres: EmbeddedPostgres): Effect.Effect<number, EmbeddedPostgresError> =>
  Effect.map(
    postgres.query(`SELECT ${tables.map((table) => `(SELECT count(*) FROM ${table})`).join(" + ")} AS rows`),
    ([row]) => Number(row?.["rows"] ?? 0)
  )
