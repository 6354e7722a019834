/**
 * Prints what is posted to it, for trying the notifier out: `node example/receiver.ts`.
 */
import { createServer } from "node:http"

const port = 8087

createServer((request, response) => {
  let body = ""
  request.setEncoding("utf8").on("data", (text: string) => body += text).on("end", () => {
    process.stdout.write(`${request.method} ${request.url} ${body}\n`)
    response.writeHead(204).end()
  })
}).listen(port, "127.0.0.1", () => process.stdout.write(`Listening on http://127.0.0.1:${port}\n`))
