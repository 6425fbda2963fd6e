{{/* Everything that the schema cannot say: values that contradict each other. All of it is told at once, each with its mend. */}}

{{- define "clinserve.check" -}}
{{- $found := list -}}
{{- range list "image" "secrets" "stores" "files" "groups" "weights" "grace" "edge" "network" "observability" -}}
{{- range include (printf "clinserve.check.%s" .) $ | splitList "\n" -}}
{{- with trim . -}}{{- $found = append $found (printf "  - %s" .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $found -}}{{- fail (printf "\nThese values do not work:\n%s\n" (join "\n" $found)) -}}{{- end -}}
{{- end -}}

{{- define "clinserve.check.image" }}
{{- if gt (len (include "clinserve.fullname" .)) 47 }}
fullnameOverride: '{{ include "clinserve.fullname" . }}' is too long for a RayService; at most 47 characters
{{- end }}
{{- $images := dict "image" .Values.image "gpuImage" .Values.gpuImage }}
{{- if .Values.loadTest.enabled }}{{ $_ := set $images "loadTest.image" .Values.loadTest.image }}{{ end }}
{{- range $name, $image := $images }}
{{- if or (ne $name "gpuImage") $image.repository }}
{{- if not $image.repository }}
{{ $name }}.repository: say where the image is (deploy/images/{{ eq $name "image" | ternary "cpu" "load" }}.Dockerfile builds it)
{{- end }}
{{- if not (or $image.tag $image.digest) }}
{{ $name }}.digest: name the image by digest (sha256:...), or by tag
{{- end }}
{{- if eq $image.tag "latest" }}
{{ $name }}.tag: 'latest' is another image every day; name a version, or better a digest
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "clinserve.check.secrets" }}
{{- $ways := list }}
{{- if .Values.secrets.existingSecret }}{{ $ways = append $ways "existingSecret" }}{{ end }}
{{- if .Values.secrets.externalSecret.enabled }}{{ $ways = append $ways "externalSecret" }}{{ end }}
{{- if .Values.secrets.keyVaultCsi.enabled }}{{ $ways = append $ways "keyVaultCsi" }}{{ end }}
{{- if not $ways }}
secrets.existingSecret: name a Secret; `clinserve secrets NAME | kubectl apply -f -` makes one. Or enable secrets.externalSecret or secrets.keyVaultCsi
{{- else if gt (len $ways) 1 }}
secrets: {{ join " and " $ways }} are alternatives; choose one
{{- end }}
{{- if and .Values.secrets.keyVaultCsi.enabled (not .Values.azureWorkloadIdentity.clientId) }}
azureWorkloadIdentity.clientId: secrets.keyVaultCsi needs azureWorkloadIdentity.clientId, the identity that may read the vault
{{- end }}
{{- if and .Values.secrets.keyVaultCsi.enabled (not (and .Values.secrets.keyVaultCsi.vault .Values.secrets.keyVaultCsi.tenantId)) }}
secrets.keyVaultCsi: name vault and tenantId
{{- end }}
{{- if and .Values.secrets.keyVaultCsi.enabled .Values.workerGroups (not .Values.azureWorkloadIdentity.engineClientId) }}
azureWorkloadIdentity.engineClientId: secrets.keyVaultCsi brings engines their secret as this identity; it may read no other
{{- end }}
{{- with .Values.azureWorkloadIdentity.engineClientId }}
{{- if eq . $.Values.azureWorkloadIdentity.clientId }}
azureWorkloadIdentity.engineClientId: is the gateways' own; an engine must not be what may read every secret
{{- end }}
{{- end }}
{{- if dig "secrets" "key_vault" "" .Values.config }}
config.secrets.key_vault: who may read a vault reads all of it; secrets.keyVaultCsi brings each pod what it needs
{{- end }}
{{- $gateways := list }}
{{- range .Values.gatewayPods.env }}{{ $gateways = append $gateways .name }}{{ end }}
{{- range .Values.deployments }}
{{- with dig "engine" "key_env" "" . }}
{{- if not (has . $gateways) }}
gatewayPods.env: an engine's key_env is {{ . }}; add an item of this name with valueFrom.secretKeyRef
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.config.guards }}
{{- with .key_env }}
{{- if not (has . $gateways) }}
gatewayPods.env: a guard's key_env is {{ . }}; add an item of this name with valueFrom.secretKeyRef
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if or (dig "valueFrom" "secretKeyRef" "" .) (has .name $gateways) }}
extraEnv: every pod would see {{ .name }}; put it where it is used: gatewayPods.env, weights.env (engines and prefetch), env of a group
{{- end }}
{{- end }}
{{- range .Values.extraVolumes }}
{{- if or .secret .projected (eq (dig "csi" "driver" "" .) "secrets-store.csi.k8s.io") }}
extraVolumes: every pod would see what '{{ .name }}' brings; put it where it is used: gatewayPods.volumes, volumes of a group
{{- end }}
{{- end }}
{{- $ours := include "clinserve.secretName" . }}
{{- $others := dict "head" .Values.head "weights" .Values.weights }}
{{- range .Values.workerGroups }}{{ $_ := set $others .name . }}{{ end }}
{{- range $name, $pod := $others }}
{{- range $pod.env }}
{{- if eq (dig "valueFrom" "secretKeyRef" "name" "" .) $ours }}
{{ $name }}.env: {{ .name }} is from the Secret {{ $ours }}, which is the gateways'; take it from a Secret of its own
{{- end }}
{{- end }}
{{- range $pod.volumes }}
{{- if contains (printf "%q" $ours) (toJson .) }}
{{ $name }}.volumes: '{{ .name }}' is from the Secret {{ $ours }}, which is the gateways'; take it from a Secret of its own
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "clinserve.check.stores" }}
{{- $gateways := dig "gateway" "replicas" 1 .Values.config | int }}
{{- $url := dig "database" "url" "" .Values.config | default "" }}
{{- $redis := dig "quotas" "redis" "" .Values.config | default "" }}
{{- if .Values.trial.enabled }}
{{- if or $url $redis }}
trial.enabled: brings its own PostgreSQL and Redis; leave config.database.url and config.quotas.redis out, or turn the trial off
{{- end }}
{{- else }}
{{- if and (or (not $url) (hasPrefix "sqlite" $url)) (gt $gateways 1) }}
config.database.url: {{ $gateways }} gateways cannot share the embedded SQLite; name a PostgreSQL, or set config.gateway.replicas to 1, or trial.enabled for a trial
{{- else if and (or (not $url) (hasPrefix "sqlite" $url)) (not .Values.state.existingClaim) }}
state.existingClaim: the embedded SQLite would be lost with its pod; name a claim, or a PostgreSQL in config.database.url, or set trial.enabled for a trial
{{- end }}
{{- if and (gt $gateways 1) (not $redis) }}
config.quotas.redis: {{ $gateways }} gateways need one to count in, or each would count for itself
{{- end }}
{{- end }}
{{- if and (not .Values.config.gateway.resource) .Values.state.existingClaim }}
config.gateway.resource: state.existingClaim is in the gateway's pods only, so gateways must run there; leave it 'gateway'
{{- end }}
{{- end -}}

{{- define "clinserve.check.groups" }}
{{- $names := list }}
{{- range .Values.deployments }}
{{- if has .name $names }}
deployments: two are called '{{ .name }}'
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- $gpuGroups := list }}
{{- $types := list }}
{{- $cpuGroups := list }}
{{- $groups := list "gateway" }}
{{- range .Values.workerGroups }}
{{- if has .name $groups }}
workerGroups: two are called '{{ .name }}' ('gateway' is the gateway's own)
{{- end }}
{{- $groups = append $groups .name }}
{{- if .gpus }}{{ $gpuGroups = append $gpuGroups . }}{{ $types = append $types (.acceleratorType | default "any") }}{{ else }}{{ $cpuGroups = append $cpuGroups . }}{{ end }}
{{- if and (hasKey . "minReplicas") (hasKey . "maxReplicas") }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
workerGroups: '{{ .name }}' has minReplicas above maxReplicas
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.deployments }}
{{- $name := .name }}
{{- with .spill_to }}
{{- if not (has . $names) }}
deployments: '{{ $name }}' spills to '{{ . }}', which is none of {{ join ", " $names }}
{{- end }}
{{- end }}
{{- if and (eq .engine.kind "echo") (include "clinserve.hasReplicas" .) (not $cpuGroups) }}
workerGroups: '{{ .name }}' has replicas of its own on CPUs; add a group without gpus
{{- end }}
{{- if eq .engine.kind "vllm" }}
{{- $type := dig "engine" "accelerator_type" "" . | default "" }}
{{- if eq (dig "engine" "device" "gpu" .) "cpu" }}
{{- if not $cpuGroups }}
workerGroups: '{{ .name }}' runs on a CPU; add a group without gpus
{{- end }}
{{- else if not $gpuGroups }}
workerGroups: '{{ .name }}' needs GPUs; add a group with gpus
{{- else if and (not $type) (gt (len $gpuGroups) 1) }}
deployments: '{{ .name }}' does not say which GPU; set engine.accelerator_type to one of {{ join ", " $types }}
{{- else }}
{{- $room := 0 }}
{{- $cpu := 0.0 }}
{{- range $gpuGroups }}{{- if or (not $type) (eq $type (.acceleratorType | default "")) }}{{- $room = max $room (int .gpus) }}{{ $cpu = maxf $cpu .cpu }}{{- end }}{{- end }}
{{- $wanted := dig "engine" "tensor_parallel_size" 1 . | int }}
{{- if not $room }}
workerGroups: none has acceleratorType {{ $type }}, which '{{ .name }}' asks for; there are {{ join ", " $types }}
{{- else if gt $wanted $room }}
workerGroups: '{{ .name }}' needs {{ $wanted }} GPUs in one pod, the largest fitting group has {{ $room }}; raise gpus, or lower engine.tensor_parallel_size
{{- else if lt $cpu (addf $wanted (dig "engine" "num_cpus" 1.0 .)) }}
workerGroups: a replica of '{{ .name }}' reserves {{ addf $wanted (dig "engine" "num_cpus" 1.0 .) }} CPUs (one a GPU, and engine.num_cpus), its group has {{ $cpu }}; raise cpu
{{- end }}
{{- end }}
{{- if and (hasPrefix "/" (dig "model" "source" "" .)) (not (dig "model" "digest" "" .)) }}
deployments: '{{ .name }}' has its weights in a directory; pin them by model.digest (clinserve weights digest DIR)
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "clinserve.check.weights" }}
{{- $kind := .Values.weights.kind }}
{{- $writable := eq (include "clinserve.weightsWritable" .) "true" }}
{{- if and .Values.weights.prefetch.enabled (or (ne $kind "claim") (not $writable)) }}
weights.prefetch.enabled: a job can only fill a claim that it may write (weights.kind claim, readOnly false); with '{{ $kind }}' replicas fetch for themselves, or find what is there
{{- end }}
{{- if and (eq $kind "ephemeral") (not .Values.weights.ephemeral.storageClassName) }}
weights.ephemeral.storageClassName: name the class of the nodes' own disks
{{- end }}
{{- if and (eq $kind "image") (not (contains "@sha256:" .Values.weights.image.reference)) }}
weights.image.reference: name the image by digest, REPOSITORY@sha256:...
{{- end }}
{{- if and (eq $kind "image") (semverCompare "<1.35-0" .Capabilities.KubeVersion.Version) }}
weights.kind: image volumes need Kubernetes 1.35 or newer; this is {{ .Capabilities.KubeVersion.Version }}
{{- end }}
{{- if and (eq $kind "blob") (not (and .Values.weights.blob.storageAccount .Values.weights.blob.container)) }}
weights.blob: name storageAccount and container
{{- end }}
{{- if and (eq $kind "claim") (not .Values.weights.claim.existingClaim) (not .Values.weights.claim.storageClassName) }}
weights.claim: name an existingClaim, or a storageClassName to make one of
{{- end }}
{{- range .Values.deployments }}
{{- if eq .engine.kind "vllm" }}
{{- $source := dig "model" "source" "" . }}
{{- if and (hasPrefix "/" $source) (eq $kind "none") (not $.Values.extraVolumes) }}
weights.kind: '{{ .name }}' has its weights in {{ $source }}, and no volume brings them; choose claim, blob or image
{{- end }}
{{- if and (not (hasPrefix "/" $source)) (has $kind (list "image" "blob")) }}
weights.kind: '{{ .name }}' is downloaded ({{ $source }}), and a volume of kind {{ $kind }} cannot be written; name the directory in it as model.source, or choose claim or ephemeral
{{- end }}
{{- if and (not (hasPrefix "/" $source)) $.Values.weights.readOnly }}
weights.readOnly: '{{ .name }}' is downloaded ({{ $source }}) and needs a place; set it to false, or name a directory as model.source
{{- end }}
{{- if and (hasPrefix "az://" $source) (not $.Values.azureWorkloadIdentity.engineClientId) }}
azureWorkloadIdentity.engineClientId: '{{ .name }}' is downloaded ({{ $source }}); name the identity that may read it, and nothing else
{{- end }}
{{- if and $.Values.offline (not (hasPrefix "/" $source)) }}
offline: '{{ .name }}' would be downloaded ({{ $source }}); name a directory of the weights volume as model.source
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "clinserve.check.grace" }}
{{- if and .Values.terminationGracePeriodSeconds (le (int .Values.terminationGracePeriodSeconds) (int (include "clinserve.leastGrace" .))) }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds | int }} s cut what preStopSeconds ({{ .Values.preStopSeconds | int }}), config.server.drain_timeout ({{ include "clinserve.seconds" (dig "server" "drain_timeout" "10m" .Values.config) }}) and 15 s for the books need; more than {{ include "clinserve.leastGrace" . }}, or 0 to have it worked out
{{- end }}
{{- end -}}

{{- define "clinserve.check.edge" }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
httpRoute.parentRefs: name the Gateway that the route belongs to
{{- end }}
{{- range $kind, $values := dict "httpRoute" .Values.httpRoute "ingress" .Values.ingress }}
{{- if and $values.enabled (not $values.hostnames) }}
{{ $kind }}.hostnames: name at least one; a route for every name would take others' requests
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tlsSecret) }}
ingress.tlsSecret: name the Secret with the certificate; keys and records do not travel in the clear
{{- end }}
{{- end -}}

{{- define "clinserve.check.network" }}
{{- $policy := .Values.networkPolicy }}
{{- if and .Values.offline (not $policy.enabled) }}
offline: means that policies let nothing out but what is named; set networkPolicy.enabled
{{- end }}
{{- if $policy.enabled }}
{{- $uses := dict "apiServer" "true" "otlp" (dig "telemetry" "traces" "otlp" "" .Values.config) "rayRedis" .Values.head.faultTolerance.redisAddress }}
{{- if not .Values.trial.enabled }}{{ $uses = merge $uses (dict "database" (include "clinserve.usesDatabase" .) "redis" (include "clinserve.usesRedis" .)) }}{{ end }}
{{- $hints := dict "apiServer" " (kubectl get endpointslices -n default -l kubernetes.io/service-name=kubernetes)" }}
{{- range $name, $used := $uses }}
{{- if and $used (not (get $policy $name).to) }}
networkPolicy.{{ $name }}.to: say where it is, such as [{ipBlock: {cidr: 10.0.0.10/32}}]{{ get $hints $name }}
{{- end }}
{{- end }}
{{- $elsewhere := list }}
{{- range .Values.deployments }}
{{- if eq .engine.kind "http" }}{{ $elsewhere = append $elsewhere (printf "'%s' is" .name) }}{{ end }}
{{- $sources := list (dig "model" "source" "/" .) }}
{{- range .adapters }}{{ $sources = append $sources (.source | default "/") }}{{ end }}
{{- range $source := $sources }}
{{- if not (or (hasPrefix "/" $source) $policy.weights.to) }}
networkPolicy.weights.to: weights come from {{ $source }}; say where that is, such as the private endpoint of the storage account
{{- end }}
{{- end }}
{{- end }}
{{- if dig "identity" "issuers" "" .Values.config }}{{ $elsewhere = append $elsewhere "config.identity.issuers are" }}{{ end }}
{{- range .Values.config.guards }}{{ if .url }}{{ $elsewhere = append $elsewhere (printf "guard '%s' is" .name) }}{{ end }}{{ end }}
{{- if dig "batches" "blob" "" .Values.config }}{{ $elsewhere = append $elsewhere "config.batches.blob is" }}{{ end }}
{{- if and $elsewhere (not $policy.gatewayEgress) }}
networkPolicy.gatewayEgress: {{ join ", " $elsewhere }} elsewhere; say where
{{- end }}
{{- $text := toJson $policy }}
{{- range list "0.0.0.0/0" "::/0" }}
{{- $anywhere := printf "\"cidr\":\"%s\"" . }}
{{- if and $.Values.offline (contains $anywhere $text) }}
offline: contradicts {{ . }} in networkPolicy
{{- end }}
{{- end }}
{{- if gt (len (regexFindAll "\"cidr\":\"0\\.0\\.0\\.0/0\"" $text -1)) (len (regexFindAll "\"cidr\":\"0\\.0\\.0\\.0/0\",\"except\":\\[[^]]*\"169\\.254\\.169\\.254/32\"" $text -1)) }}
networkPolicy: 0.0.0.0/0 has the nodes' metadata in it, which gives out the node's identity; add except: [169.254.169.254/32]
{{- end }}
{{- end }}
{{- end -}}

{{- define "clinserve.check.observability" }}
{{- if and .Values.monitoring.rules.enabled (ne .Values.monitoring.apiGroup "monitoring.coreos.com/v1") }}
monitoring.rules.enabled: {{ .Values.monitoring.apiGroup }} has no PrometheusRule; load deploy/observability/rules into Azure Monitor's rule groups, or choose monitoring.coreos.com/v1
{{- end }}
{{- if and .Values.loadTest.enabled (not .Values.demoKey.enabled) (not .Values.test.keySecret.name) }}
loadTest.enabled: needs a key; set demoKey.enabled, or test.keySecret.name
{{- end }}
{{- end -}}
