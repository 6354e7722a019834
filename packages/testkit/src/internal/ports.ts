/**
 * Ports of the loopback interface.
 */
import { createServer } from "node:net"

/** A port that was free a moment ago. Whoever can, binds port 0 itself instead. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => {
        if (address !== null && typeof address === "object") resolve(address.port)
        else reject(new Error("no free port"))
      })
    })
  })
