/** The client that the hooks below a provider use. */
import type { Client } from "@hubbub/client";
import { createContext, useContext, type ReactNode } from "react";

const Context = createContext<Client | undefined>(undefined);

/** Gives the hooks below it a client. Connecting and closing it is the program's. */
export function HubbubProvider({ client, children }: { client: Client; children?: ReactNode }): ReactNode {
  return <Context.Provider value={client}>{children}</Context.Provider>;
}

/** The provider's client. Throws without one: that is a mistake in the program. */
export function useClient(): Client {
  const client = useContext(Context);
  if (!client) throw new Error("no HubbubProvider above this component");
  return client;
}
