CREATE TABLE public.history (
    instanceid text NOT NULL,
    sequencenumber integer NOT NULL,
    eventpayload bytea NOT NULL
);
CREATE SEQUENCE public.history_sequencenumber_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.history_sequencenumber_seq OWNED BY public.history.sequencenumber;
CREATE TABLE public.instances (
    sequencenumber integer NOT NULL,
    instanceid text NOT NULL,
    executionid text NOT NULL,
    name text NOT NULL,
    version text,
    runtimestatus text NOT NULL,
    createdtime timestamp without time zone DEFAULT now() NOT NULL,
    lastupdatedtime timestamp without time zone DEFAULT now() NOT NULL,
    completedtime timestamp without time zone,
    lockedby text,
    lockexpiration timestamp without time zone,
    input text,
    output text,
    customstatus text,
    failuredetails bytea,
    parentinstanceid text
);
CREATE SEQUENCE public.instances_sequencenumber_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.instances_sequencenumber_seq OWNED BY public.instances.sequencenumber;
CREATE TABLE public.newevents (
    sequencenumber integer NOT NULL,
    instanceid text NOT NULL,
    executionid text,
    "timestamp" timestamp without time zone DEFAULT now() NOT NULL,
    visibletime timestamp without time zone,
    dequeuecount integer DEFAULT 0 NOT NULL,
    lockedby text,
    eventpayload bytea NOT NULL
);
CREATE SEQUENCE public.newevents_sequencenumber_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.newevents_sequencenumber_seq OWNED BY public.newevents.sequencenumber;
CREATE TABLE public.newtasks (
    sequencenumber integer NOT NULL,
    instanceid text NOT NULL,
    executionid text,
    "timestamp" timestamp without time zone DEFAULT now() NOT NULL,
    dequeuecount integer DEFAULT 0 NOT NULL,
    lockedby text,
    lockexpiration timestamp without time zone,
    eventpayload bytea NOT NULL
);
CREATE SEQUENCE public.newtasks_sequencenumber_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.newtasks_sequencenumber_seq OWNED BY public.newtasks.sequencenumber;
ALTER TABLE ONLY public.history ALTER COLUMN sequencenumber SET DEFAULT nextval('public.history_sequencenumber_seq'::regclass);
ALTER TABLE ONLY public.instances ALTER COLUMN sequencenumber SET DEFAULT nextval('public.instances_sequencenumber_seq'::regclass);
ALTER TABLE ONLY public.newevents ALTER COLUMN sequencenumber SET DEFAULT nextval('public.newevents_sequencenumber_seq'::regclass);
ALTER TABLE ONLY public.newtasks ALTER COLUMN sequencenumber SET DEFAULT nextval('public.newtasks_sequencenumber_seq'::regclass);
INSERT INTO public.history VALUES ('completed', 0, '\x08ffffffffffffffffff01120c0885fb9ad80610c1ec9ac0027200');
INSERT INTO public.history VALUES ('completed', 1, '\x08ffffffffffffffffff01120c0885fb9ad80610b69d98b7021a3f0a0873657175656e636522330a09636f6d706c6574656412260a2438623939376134652d396463382d346532652d386630372d363237373337376661333965');
INSERT INTO public.history VALUES ('completed', 2, '\x120c0885fb9ad80610c0ab9ec002320d0a0566697273741a040a023230');
INSERT INTO public.history VALUES ('failed', 0, '\x08ffffffffffffffffff01120c0885fb9ad80610e1dbfaf2027200');
INSERT INTO public.history VALUES ('failed', 1, '\x08ffffffffffffffffff01120c0885fb9ad80610f1e090b9021a370a0362616422300a066661696c656412260a2466333032363535332d656439362d343730342d626639642d663635396339643863646630');
INSERT INTO public.history VALUES ('failed', 2, '\x120c0885fb9ad80610a797fff202222808031a240a132a6572726f72732e6572726f72537472696e67120d6e6f2073756368207468696e67');
INSERT INTO public.history VALUES ('retrying', 0, '\x08ffffffffffffffffff01120c0885fb9ad80610b5c78ea5037200');
INSERT INTO public.history VALUES ('retrying', 1, '\x08ffffffffffffffffff01120c0885fb9ad80610ed8ecdb9021a3b0a05726574727922320a087265747279696e6712260a2466383439396335632d373665342d343161612d393065362d623764663734666236623132');
INSERT INTO public.history VALUES ('retrying', 2, '\x120c0885fb9ad80610ffad91a50332070a05666c616b79');
INSERT INTO public.history VALUES ('terminated', 0, '\x08ffffffffffffffffff01120c0885fb9ad80610b8faaadc037200');
INSERT INTO public.history VALUES ('terminated', 1, '\x08ffffffffffffffffff01120c0885fb9ad80610f7b1fdba021a3d0a056576656e7422340a0a7465726d696e6174656412260a2430363365383865312d613166302d343130642d626431362d633733373032616263366263');
INSERT INTO public.history VALUES ('completed', 3, '\x08ffffffffffffffffff01120b0886fb9ad80610f3efb1307200');
INSERT INTO public.history VALUES ('completed', 4, '\x08ffffffffffffffffff01120c0885fb9ad806108a86cff2023a0612040a023231');
INSERT INTO public.history VALUES ('completed', 5, '\x0801120b0886fb9ad80610f58bb430320e0a067365636f6e641a040a023231');
INSERT INTO public.history VALUES ('retrying', 3, '\x08ffffffffffffffffff01120b0886fb9ad80610a6afa9627200');
INSERT INTO public.history VALUES ('retrying', 4, '\x08ffffffffffffffffff01120c0885fb9ad8061092bca3dc034220121e0a132a6572726f72732e6572726f72537472696e6712076e6f7420796574');
INSERT INTO public.history VALUES ('retrying', 5, '\x0801120b0886fb9ad80610b8e9ae62620d0a0b0887fb9ad80610a6afa962');
INSERT INTO public.history VALUES ('completed', 6, '\x08ffffffffffffffffff01120c0886fb9ad80610f0dab093017200');
INSERT INTO public.history VALUES ('completed', 7, '\x08ffffffffffffffffff01120b0886fb9ad80610aee29b623a08080112040a023432');
INSERT INTO public.history VALUES ('completed', 8, '\x0802120c0886fb9ad806108cc3b293012208080112040a023432');
INSERT INTO public.history VALUES ('terminated', 2, '\x08ffffffffffffffffff01120c0886fb9ad80610908caed9027200');
INSERT INTO public.history VALUES ('terminated', 3, '\x08ffffffffffffffffff01120c0886fb9ad8061094e9ccd5022a0e0a0a0a0822656e6f756768221001');
INSERT INTO public.history VALUES ('terminated', 4, '\x120c0886fb9ad80610d8bfafd902220e0805120a0a0822656e6f75676822');
INSERT INTO public.history VALUES ('second-open', 0, '\x08ffffffffffffffffff01120c0886fb9ad80610bc92fc89037200');
INSERT INTO public.history VALUES ('second-open', 1, '\x08ffffffffffffffffff01120c0886fb9ad80610ffee8dd6021a410a0873657175656e636522350a0b7365636f6e642d6f70656e12260a2461393964306465362d393135622d346436322d393131302d396265653131373761363562');
INSERT INTO public.history VALUES ('second-open', 2, '\x120c0886fb9ad80610d59dfe8903320d0a0566697273741a040a023230');
INSERT INTO public.history VALUES ('timer-later', 0, '\x08ffffffffffffffffff01120c0886fb9ad806109dafb5ba037200');
INSERT INTO public.history VALUES ('timer-later', 1, '\x08ffffffffffffffffff01120c0886fb9ad8061095e3d6d6021a4b0a0574696d65721a0b0a0933313533363030303022350a0b74696d65722d6c6174657212260a2436643839393031312d343264632d343764622d383365362d396437376137616439303831');
INSERT INTO public.history VALUES ('timer-later', 2, '\x120c0886fb9ad80610e1c0b7ba03620e0a0c088681cbee07109dafb5ba03');
INSERT INTO public.history VALUES ('event', 0, '\x08ffffffffffffffffff01120b0887fb9ad80610c38cc10e7200');
INSERT INTO public.history VALUES ('event', 1, '\x08ffffffffffffffffff01120c0886fb9ad80610dca9f7d6021a380a056576656e74222f0a056576656e7412260a2430303539336661362d613461352d343865622d616534622d343833326334373162356563');
INSERT INTO public.history VALUES ('half-event', 0, '\x08ffffffffffffffffff01120b0887fb9ad8061081df983f7200');
INSERT INTO public.history VALUES ('half-event', 1, '\x08ffffffffffffffffff01120c0886fb9ad80610bbf59ed7021a3d0a056576656e7422340a0a68616c662d6576656e7412260a2435323131393233662d323835392d343363622d383564332d323964363464633863326364');
INSERT INTO public.history VALUES ('retrying', 6, '\x08ffffffffffffffffff01120b0887fb9ad80610f6948c707200');
INSERT INTO public.history VALUES ('retrying', 7, '\x08ffffffffffffffffff01120b0886fb9ad8061099edae626a0f0a0b0887fb9ad80610a6afa9621001');
INSERT INTO public.history VALUES ('retrying', 8, '\x0802120b0887fb9ad80610c3ef8f7032070a05666c616b79');
INSERT INTO public.history VALUES ('suspended', 0, '\x08ffffffffffffffffff01120c0887fb9ad80610b3c1bea1017200');
INSERT INTO public.history VALUES ('suspended', 1, '\x08ffffffffffffffffff01120c0886fb9ad806109291bed7021a3c0a056576656e7422330a0973757370656e64656412260a2462346431376339662d663733642d346636622d386333372d353833646234396238633366');
INSERT INTO public.history VALUES ('parent', 0, '\x08ffffffffffffffffff01120c0887fb9ad8061089f9d6d0017200');
INSERT INTO public.history VALUES ('parent', 1, '\x08ffffffffffffffffff01120c0886fb9ad80610dbaae1d7021a3a0a06706172656e7422300a06706172656e7412260a2436313664633431652d323264342d343765622d383932352d383562336166373664303737');
INSERT INTO public.history VALUES ('parent', 2, '\x120c0887fb9ad80610bbd4d8d0014a0e0a056368696c6412056576656e74');
INSERT INTO public.history VALUES ('child', 0, '\x08ffffffffffffffffff01120c0887fb9ad80610aeebceb1027200');
INSERT INTO public.history VALUES ('child', 1, '\x08ffffffffffffffffff01120c0887fb9ad8061092ddd8d0011a4e0a056576656e74222f0a056368696c6412260a2434633136656636372d653231382d343835392d623935302d3562366530656435316230632a1412080a06706172656e7422080a06706172656e74');
INSERT INTO public.history VALUES ('second-open', 3, '\x08ffffffffffffffffff01120c0888fb9ad80610d782bf87027200');
INSERT INTO public.history VALUES ('second-open', 4, '\x08ffffffffffffffffff01120b0888fb9ad806108ecace153a0612040a023231');
INSERT INTO public.history VALUES ('second-open', 5, '\x0801120c0888fb9ad80610e5d1c28702320e0a067365636f6e641a040a023231');
INSERT INTO public.history VALUES ('retrying', 9, '\x08ffffffffffffffffff01120c0888fb9ad80610e9b3b3b8027200');
INSERT INTO public.history VALUES ('retrying', 10, '\x08ffffffffffffffffff01120b0888fb9ad80610cab4924642220802121e0a132a6572726f72732e6572726f72537472696e6712076e6f7420796574');
INSERT INTO public.history VALUES ('retrying', 11, '\x0803120c0888fb9ad80610bd91b5b802620e0a0c0889fb9ad80610e9b3b3b802');
INSERT INTO public.history VALUES ('result-waits', 0, '\x08ffffffffffffffffff01120b0889fb9ad80610cdf5b41d7200');
INSERT INTO public.history VALUES ('result-waits', 1, '\x08ffffffffffffffffff01120b0889fb9ad8061088ace91c1a420a0873657175656e636522360a0c726573756c742d776169747312260a2430363436643664662d303333372d343035632d616431312d353037313235636365353235');
INSERT INTO public.history VALUES ('result-waits', 2, '\x120b0889fb9ad80610e4c4b61d320d0a0566697273741a040a023230');
INSERT INTO public.history VALUES ('half-event', 2, '\x08ffffffffffffffffff01120b0889fb9ad80610ededfa4e7200');
INSERT INTO public.history VALUES ('half-event', 3, '\x08ffffffffffffffffff01120b0889fb9ad80610ffd68f1c8a01100a02476f120a0a08226561726c792022');
INSERT INTO public.history VALUES ('half-event', 4, '\x120b0889fb9ad80610cdb9ff4e620d0a0b088981cbee0710ededfa4e');
INSERT INTO public.history VALUES ('suspended', 2, '\x08ffffffffffffffffff01120c0889fb9ad806108cfc8882017200');
INSERT INTO public.history VALUES ('suspended', 3, '\x08ffffffffffffffffff01120b0889fb9ad80610ccb6d81caa010d0a0b0a09666f72206c756e6368');
INSERT INTO public.history VALUES ('loop', 0, '\x08ffffffffffffffffff01120c0889fb9ad806109ac5e6b2017200');
INSERT INTO public.history VALUES ('loop', 1, '\x08ffffffffffffffffff01120c0889fb9ad80610f1c8e6b2011a3b0a046c6f6f701a030a0133222e0a046c6f6f7012260a2462386164646562622d346364342d346239322d393337392d343032663837623031376364');
INSERT INTO public.history VALUES ('retrying', 12, '\x08ffffffffffffffffff01120c0889fb9ad80610bd8cf5c3027200');
INSERT INTO public.history VALUES ('retrying', 13, '\x08ffffffffffffffffff01120c0888fb9ad80610cb93b5b8026a100a0c0889fb9ad80610e9b3b3b8021003');
INSERT INTO public.history VALUES ('retrying', 14, '\x0804120c0889fb9ad80610e490f8c30232070a05666c616b79');
INSERT INTO public.history VALUES ('suspended', 4, '\x08ffffffffffffffffff01120b088afb9ad80610bdbde1287200');
INSERT INTO public.history VALUES ('suspended', 5, '\x08ffffffffffffffffff01120b088afb9ad80610b882d5278a01160a02676f12100a0e227768696c6520617761792c2022');
INSERT INTO public.history VALUES ('timer-due', 0, '\x08ffffffffffffffffff01120b088afb9ad806108084fb597200');
INSERT INTO public.history VALUES ('timer-due', 1, '\x08ffffffffffffffffff01120b088afb9ad80610fbce80281a410a0574696d65721a030a013322330a0974696d65722d64756512260a2439626336636433652d306433642d343435362d613533322d613763306235396238633264');
INSERT INTO public.history VALUES ('timer-due', 2, '\x120b088afb9ad80610c9fcfc59620d0a0b088dfb9ad806108084fb59');
INSERT INTO public.instances VALUES (12, 'child', '4c16ef67-e218-4859-b950-5b6e0ed51b0c', 'event', '', 'RUNNING', '2026-11-25 10:50:47.437661', '2026-11-25 10:50:47.640997', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, 'waiting', NULL, NULL);
INSERT INTO public.instances VALUES (2, 'failed', 'f3026553-ed96-4704-bf9d-f659c9d8cdf0', 'bad', '', 'FAILED', '2026-11-25 10:50:45.656683', '2026-11-25 10:50:45.781542', '2026-11-25 10:50:45.781542', 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', '', '', '\x0a132a6572726f72732e6572726f72537472696e67120d6e6f2073756368207468696e67', NULL);
INSERT INTO public.instances VALUES (5, 'second-open', 'a99d0de6-915b-4d62-9110-9bee1177a65b', 'sequence', '', 'RUNNING', '2026-11-25 10:50:46.717453', '2026-11-25 10:50:48.552707', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, '', NULL, NULL);
INSERT INTO public.instances VALUES (13, 'result-waits', '0646d6df-0337-405c-ad11-507125cce525', 'sequence', '', 'RUNNING', '2026-11-25 10:50:49.060446', '2026-11-25 10:50:49.061753', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, '', NULL, NULL);
INSERT INTO public.instances VALUES (1, 'completed', '8b997a4e-9dc8-4e2e-8f07-6277377fa39e', 'sequence', '', 'COMPLETED', '2026-11-25 10:50:45.652611', '2026-11-25 10:50:46.309208', '2026-11-25 10:50:46.309208', 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', '42', '', NULL, NULL);
INSERT INTO public.instances VALUES (4, 'terminated', '063e88e1-a1f0-410d-bd16-c73702abc6bc', 'event', '', 'TERMINATED', '2026-11-25 10:50:45.66056', '2026-11-25 10:50:46.724398', '2026-11-25 10:50:46.724398', 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', '"enough"', 'waiting', NULL, NULL);
INSERT INTO public.instances VALUES (8, 'half-event', '5211923f-2859-43cb-85d3-29d64dc8c2cd', 'event', '', 'RUNNING', '2026-11-25 10:50:46.719829', '2026-11-25 10:50:49.165751', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, 'waiting', NULL, NULL);
INSERT INTO public.instances VALUES (6, 'timer-later', '6d899011-42dc-47db-83e6-9d77a7ad9081', 'timer', '', 'RUNNING', '2026-11-25 10:50:46.718647', '2026-11-25 10:50:46.927914', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '315360000', NULL, '', NULL, NULL);
INSERT INTO public.instances VALUES (7, 'event', '00593fa6-a4a5-48eb-ae4b-4832c471b5ec', 'event', '', 'RUNNING', '2026-11-25 10:50:46.719181', '2026-11-25 10:50:47.030509', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, 'waiting', NULL, NULL);
INSERT INTO public.instances VALUES (11, 'loop', '3336367d-288c-48c5-afec-24bd389aa18d', 'loop', '', 'RUNNING', '2026-11-25 10:50:49.374973', '2026-11-25 10:50:49.375076', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '3', NULL, '', NULL, NULL);
INSERT INTO public.instances VALUES (3, 'retrying', 'f8499c5c-76e4-41aa-90e6-b7df74fb6b12', 'retry', '', 'RUNNING', '2026-11-25 10:50:45.657672', '2026-11-25 10:50:49.679416', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, '', NULL, NULL);
INSERT INTO public.instances VALUES (10, 'parent', '616dc41e-22d4-47eb-8925-85b3af76d077', 'parent', '', 'RUNNING', '2026-11-25 10:50:46.720917', '2026-11-25 10:50:47.437834', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, '', NULL, NULL);
INSERT INTO public.instances VALUES (9, 'suspended', 'b4d17c9f-f73d-4f6b-8c37-583db49b8c3f', 'event', '', 'SUSPENDED', '2026-11-25 10:50:46.720341', '2026-11-25 10:50:50.08558', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '', NULL, 'waiting', NULL, NULL);
INSERT INTO public.instances VALUES (14, 'timer-due', '9bc6cd3e-0d3d-4456-a532-a7c0b59b8c2d', 'timer', '', 'RUNNING', '2026-11-25 10:50:50.083896', '2026-11-25 10:50:50.188754', NULL, 'vm,28494,35c62e86-baac-4ca4-862b-d6dfb9da855e', NULL, '3', NULL, '', NULL, NULL);
INSERT INTO public.instances VALUES (15, 'pending', 'c0fb905d-0d6f-4dba-b1f3-516cb708444a', 'sequence', '', 'PENDING', '2026-11-25 10:50:51.593739', '2026-11-25 10:50:51.593845', NULL, NULL, NULL, '', NULL, NULL, NULL, NULL);
INSERT INTO public.instances VALUES (16, 'first-open', '1dcce18a-c35c-433d-98cf-aae467b78be0', 'sequence', '', 'PENDING', '2026-11-25 10:50:51.595002', '2026-11-25 10:50:51.595044', NULL, NULL, NULL, '', NULL, NULL, NULL, NULL);
INSERT INTO public.newevents VALUES (29, 'timer-due', NULL, '2026-11-25 10:50:50.188731', '2026-11-25 10:50:53.188662', 0, NULL, '\x08ffffffffffffffffff01120b088afb9ad80610c880fd596a0d0a0b088dfb9ad806108084fb59');
INSERT INTO public.newevents VALUES (30, 'second-open', NULL, '2026-11-25 10:50:50.593697', NULL, 0, NULL, '\x08ffffffffffffffffff01120c088afb9ad80610b0c58a9b023a08080112040a023432');
INSERT INTO public.newevents VALUES (31, 'pending', NULL, '2026-11-25 10:50:51.593845', NULL, 0, NULL, '\x08ffffffffffffffffff01120c088bfb9ad80610a1fc8e9b021a3d0a0873657175656e636522310a0770656e64696e6712260a2463306662393035642d306436662d346462612d623166332d353136636237303834343461');
INSERT INTO public.newevents VALUES (32, 'first-open', NULL, '2026-11-25 10:50:51.595044', NULL, 0, NULL, '\x08ffffffffffffffffff01120c088bfb9ad806109187dc9b021a400a0873657175656e636522340a0a66697273742d6f70656e12260a2431646363653138612d633335632d343333642d393863662d616165343637623738626530');
INSERT INTO public.newevents VALUES (33, 'event', NULL, '2026-11-25 10:50:51.59617', NULL, 0, NULL, '\x08ffffffffffffffffff01120c088bfb9ad80610c0fe9e9c028a011a0a02676f12140a122266726f6d2074686520696e626f782c2022');
INSERT INTO public.newevents VALUES (17, 'timer-later', NULL, '2026-11-25 10:50:46.927891', '2036-11-22 10:50:46.927815', 0, NULL, '\x08ffffffffffffffffff01120c0886fb9ad80610d8c5b7ba036a0e0a0c088681cbee07109dafb5ba03');
INSERT INTO public.newevents VALUES (34, 'nobody', NULL, '2026-11-25 10:50:51.596769', NULL, 0, NULL, '\x08ffffffffffffffffff01120c088bfb9ad80610a0f0c49c028a010e0a02676f12080a06226c6f737422');
INSERT INTO public.newevents VALUES (35, 'loop', NULL, '2026-11-25 10:50:51.597346', NULL, 0, NULL, '\x08ffffffffffffffffff01120c088bfb9ad80610fb83e89c028a010a0a0361646412030a0133');
INSERT INTO public.newevents VALUES (36, 'loop', NULL, '2026-11-25 10:50:51.597675', NULL, 0, NULL, '\x08ffffffffffffffffff01120c088bfb9ad80610f8f2f79c028a010a0a0361646412030a0130');
INSERT INTO public.newevents VALUES (26, 'half-event', NULL, '2026-11-25 10:50:49.165692', '2036-11-22 10:50:49.16559', 0, NULL, '\x08ffffffffffffffffff01120b0889fb9ad80610e9bdff4e6a0d0a0b088981cbee0710ededfa4e');
INSERT INTO public.newtasks VALUES (7, 'result-waits', NULL, '2026-11-25 10:50:49.061735', 0, NULL, NULL, '\x120b0889fb9ad80610e4c4b61d320d0a0566697273741a040a023230');
INSERT INTO public.newtasks VALUES (8, 'retrying', NULL, '2026-11-25 10:50:49.679391', 0, NULL, NULL, '\x0804120c0889fb9ad80610e490f8c30232070a05666c616b79');
SELECT pg_catalog.setval('public.history_sequencenumber_seq', 1, false);
SELECT pg_catalog.setval('public.instances_sequencenumber_seq', 16, true);
SELECT pg_catalog.setval('public.newevents_sequencenumber_seq', 36, true);
SELECT pg_catalog.setval('public.newtasks_sequencenumber_seq', 8, true);
ALTER TABLE ONLY public.history
    ADD CONSTRAINT history_pkey PRIMARY KEY (instanceid, sequencenumber);
ALTER TABLE ONLY public.instances
    ADD CONSTRAINT instances_pkey PRIMARY KEY (instanceid);
ALTER TABLE ONLY public.newevents
    ADD CONSTRAINT newevents_instanceid_sequencenumber_key UNIQUE (instanceid, sequencenumber);
ALTER TABLE ONLY public.newevents
    ADD CONSTRAINT newevents_pkey PRIMARY KEY (sequencenumber);
ALTER TABLE ONLY public.newtasks
    ADD CONSTRAINT newtasks_pkey PRIMARY KEY (sequencenumber);
CREATE INDEX ix_instances_createdtime ON public.instances USING btree (createdtime);
CREATE INDEX ix_instances_runtimestatus ON public.instances USING btree (runtimestatus);
