import{ag as u}from"./start-B4G-3Bxk.js";function n(){const e=u();return(...r)=>Promise.all(r.map(a=>e.invalidateQueries({queryKey:[a]})))}export{n as u};
