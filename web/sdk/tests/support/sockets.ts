/** A network that tests can cut: sockets are counted, refused and torn. */
import { WebSocket } from "ws";

export class Network {
  /** Open at the same time, at most. */
  most = 0;
  /** Ever made. */
  made = 0;
  down = false;
  /** Nothing from the server comes through, and nothing says so. */
  silent = false;
  /** Text frames that were sent. */
  readonly sent: string[] = [];
  /** The next frame from the server that holds this text is lost. */
  lose: string | undefined;
  readonly #open = new Set<WebSocket>();

  readonly WebSocket: typeof WebSocket = ((network: Network) =>
    class extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(network.down ? "ws://127.0.0.1:1" : url, protocols);
        network.made++;
        network.#open.add(this);
        network.most = Math.max(network.most, network.#open.size);
        this.on("close", () => network.#open.delete(this));
      }
      override emit(event: string | symbol, ...args: unknown[]): boolean {
        if (event === "message" && network.silent) return true;
        if (event === "message" && network.lose && String(args[0]).includes(network.lose)) {
          network.lose = undefined;
          return true;
        }
        return super.emit(event, ...args);
      }
      override send(data: never, ...more: never[]): void {
        if (typeof data === "string") network.sent.push(data);
        super.send(data, ...more);
      }
      // A client that closes a socket has left it, whenever its end is told.
      override close(code?: number, reason?: string): void {
        network.#open.delete(this);
        super.close(code, reason);
      }
    })(this) as unknown as typeof WebSocket;

  /** Tears what is open, without a Close. */
  cut(): void {
    for (const socket of this.#open) socket.terminate();
  }
}
