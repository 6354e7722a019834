/**
 * Ports of the loopback interface.
 */
import { createServer } from "node:net"

/** Ports that systems don't give to connections and to whoever asks for any port: Linux begins at 32768, others at 49152. */
const first = 20_000
const count = 12_000

/** Other processes begin elsewhere. */
let next = Math.floor(Math.random() * count)

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "EADDRINUSE" || cause.code === "EACCES") resolve(false)
      else reject(cause)
    })
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
  })

/**
 * A port that was free a moment ago, and that no connection gets before it is used, not between two starts of a server either. Whoever can,
 * binds port 0 itself instead.
 */
export const freePort = async (): Promise<number> => {
  for (let tries = 0; tries < 100; tries++) {
    const port = first + next
    next = (next + 1) % count
    if (await isFree(port)) return port
  }
  throw new Error("no free port")
}
