import{af as u}from"./start-BKFHUZGi.js";function n(){const e=u();return(...r)=>Promise.all(r.map(a=>e.invalidateQueries({queryKey:[a]})))}export{n as u};
