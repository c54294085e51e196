import "./design/tokens.css";
import "./design/base.css";
import "./design/controls.css";
import "./features/session/door.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Provider } from "react-redux";
import { App } from "./app/App";
import { Broken } from "./app/Broken";
import { followAddress } from "./app/navigate";
import { makeStore } from "./app/store";
import { startWorker } from "./features/push/worker";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has a #root");
const store = makeStore();
followAddress(store);
createRoot(root).render(
  <StrictMode>
    <Broken>
      <Provider store={store}>
        <App />
      </Provider>
    </Broken>
  </StrictMode>,
);
startWorker();
