/** The network between one browser and the server, as something that can be cut: connections die at once, new ones are refused. */
import { createServer, type Server as TcpServer, Socket } from "node:net";

export class Cable {
  #ends = new Set<Socket>();
  #cut = false;
  #listener: TcpServer;

  private constructor(
    readonly port: number,
    to: number,
    listener: TcpServer,
  ) {
    this.#listener = listener;
    listener.on("connection", (near) => {
      if (this.#cut) return near.destroy();
      const far = new Socket();
      for (const [a, b] of [[near, far], [far, near]] as const) {
        this.#ends.add(a);
        a.setNoDelay(true);
        a.on("error", () => b.destroy());
        a.on("close", () => {
          this.#ends.delete(a);
          b.destroy();
        });
      }
      far.connect(to, "127.0.0.1");
      near.pipe(far).pipe(near);
    });
  }

  static lay(to: number): Promise<Cable> {
    const listener = createServer();
    return new Promise((resolve) =>
      listener.listen(0, "127.0.0.1", () => {
        const address = listener.address();
        if (typeof address === "object" && address) resolve(new Cable(address.port, to, listener));
      }),
    );
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  cut() {
    this.#cut = true;
    for (const end of this.#ends) end.destroy();
  }

  mend() {
    this.#cut = false;
  }

  remove() {
    this.cut();
    this.#listener.close();
  }
}
